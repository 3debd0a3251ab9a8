"""A table of any columns, as pandas has it: CSV, Parquet, Markdown, and for the terminal."""

import re
from collections.abc import Iterable, Sequence
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from ghosttrack.report.tables import Estimate, with_interval, write_csv

Cell = str | int | float | Estimate | None
"""Those of a column are of one kind, None where there is nothing."""


def sheet_of(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> pd.DataFrame:
    """Make a table of cells as they are: a whole number stays one beside an empty cell."""
    return pd.DataFrame(list(rows), columns=list(columns), dtype=object)


class SpelledSheet(NamedTuple):
    """A table as people read it, less its empty columns."""

    columns: tuple[str, ...]
    is_text: tuple[bool, ...]
    """Of each column; the others hold numbers."""
    rows: list[list[str]]


def spelled(sheet: pd.DataFrame) -> SpelledSheet:
    """Spell every cell."""
    cells = {name: sheet[name].tolist() for name in sheet.columns}
    filled = {name: column for name, column in cells.items() if any(map(_is_there, column))}
    is_text = tuple(any(isinstance(cell, str) for cell in column) for column in filled.values())
    rows = zip(*(map(shown, column) for column in filled.values()), strict=True)
    return SpelledSheet(tuple(filled), is_text, list(map(list, rows)))


def shown(cell: Cell) -> str:
    """Spell a cell for people.

    >>> [shown(cell) for cell in (None, 3, 0.91234, 1234.5, 0.000012, Estimate(0.9, 0.8, None))]
    ['', '3', '0.912', '1234', '1.2e-05', '0.900 [0.800, –]']
    """
    if isinstance(cell, Estimate):
        if cell[1:] == (None, None):
            return shown(cell.value)
        return with_interval(cell.value, (cell.low, cell.high))
    if not _is_there(cell):
        return ""
    if isinstance(cell, float):
        if cell and abs(cell) < 0.001:
            return f"{cell:.2g}"
        return f"{cell:.3f}" if abs(cell) < 100 else f"{cell:.0f}"
    return str(cell)


def flat(sheet: pd.DataFrame) -> pd.DataFrame:
    """Give the ends of an interval columns of their own, ` low` and ` high`; no number: None."""
    columns: dict[str, list[Cell]] = {}
    for name in sheet.columns:
        cells = sheet[name].tolist()
        if any(isinstance(cell, Estimate) for cell in cells):
            parts = [cell if isinstance(cell, Estimate) else (None,) * 3 for cell in cells]
            for end, part in zip(("", " low", " high"), zip(*parts, strict=True), strict=True):
                columns[name + end] = list(part)
        else:
            columns[name] = cells
    plain = {
        name: [cell if _is_finite(cell) else None for cell in columns[name]] for name in columns
    }
    return pd.DataFrame(plain, dtype=object)


def write_sheet(stem: Path, sheet: pd.DataFrame) -> list[Path]:
    """Write `<stem>.csv`, `.parquet` and `.md`; return the files."""
    csv, parquet, md = (stem.with_suffix(suffix) for suffix in (".csv", ".parquet", ".md"))
    write_flat(csv, sheet)
    flat(sheet).to_parquet(parquet, index=False)
    md.write_text(markdown(sheet), encoding="utf-8")
    return [csv, parquet, md]


def write_flat(path: Path, sheet: pd.DataFrame) -> None:
    """Write CSV."""
    cells = flat(sheet)
    write_csv(path, list(cells.columns), cells.itertuples(index=False, name=None))


def markdown(sheet: pd.DataFrame) -> str:
    r"""Write it as Markdown, less its empty columns; what a cell says cannot end the cell.

    >>> print(markdown(sheet_of(("run", "k"), [("a|b", 16)])), end="")
    | run | k |
    | :-- | --: |
    | a\|b | 16 |
    """
    table = spelled(sheet)
    ruler = [":--" if is_text else "--:" for is_text in table.is_text]
    lines = [list(map(_escaped, line)) for line in (table.columns, *table.rows)]
    lines.insert(1, ruler)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def print_sheet(sheet: pd.DataFrame) -> None:
    """Print it less its empty columns; a narrow terminal wraps, a log does not cut it."""
    said = spelled(sheet)
    table = RichTable(box=None, pad_edge=False, header_style="bold")
    for name, is_text in zip(said.columns, said.is_text, strict=True):
        table.add_column(Text(name), no_wrap=True, justify="left" if is_text else "right")
    for row in said.rows:
        table.add_row(*map(Text, row))
    wide = Console(width=10_000)
    width = Measurement.get(wide, wide.options, table).maximum
    Console(width=max(Console().width, width)).print(table)


def _is_finite(cell: Cell) -> bool:
    return not isinstance(cell, float) or isfinite(cell)


def _is_there(cell: Cell) -> bool:
    return cell is not None and cell != "" and _is_finite(cell)


def _escaped(text: str) -> str:
    return re.sub(r"([\\|<*`]|(?<=\])\()", r"\\\1", " ".join(text.splitlines()))
