"""A table of any columns: CSV, Parquet, Markdown, and for the terminal."""

import re
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from ghosttrack.report.cells import with_interval, write_csv


class Estimate(NamedTuple):
    """A number with its interval; None where one is not defined."""

    value: float | None
    low: float | None
    high: float | None


Cell = str | int | float | Estimate | None


class Sheet(NamedTuple):
    """A table; a column holds cells of one kind, None where there is nothing."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]

    def column(self, name: str) -> list[Cell]:
        """Take one column."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def of(self, columns: Sequence[str]) -> "Sheet":
        """Take some columns, in this order."""
        places = [self.columns.index(name) for name in columns]
        return Sheet(tuple(columns), [tuple(row[place] for place in places) for row in self.rows])

    def filled(self) -> "Sheet":
        """Leave out columns of which no row has anything."""
        return self.of([name for name in self.columns if any(map(_is_there, self.column(name)))])

    def flat(self) -> "Sheet":
        """Give the ends of an interval columns of their own, ` low` and ` high`."""
        columns: list[str] = []
        cells: list[list[Cell]] = []
        for name in self.columns:
            column = self.column(name)
            if any(isinstance(cell, Estimate) for cell in column):
                columns += [name, f"{name} low", f"{name} high"]
                parts = [cell if isinstance(cell, Estimate) else (None,) * 3 for cell in column]
                cells += [list(part) for part in zip(*parts, strict=True)]
            else:
                columns.append(name)
                cells.append(column)
        return Sheet(tuple(columns), list(zip(*cells, strict=True)))


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


def write_sheet(stem: Path, sheet: Sheet) -> list[Path]:
    """Write `<stem>.csv`, `.parquet` and `.md`; return the files."""
    flat = sheet.flat()
    csv, parquet, md = (stem.with_suffix(suffix) for suffix in (".csv", ".parquet", ".md"))
    write_csv(csv, flat.columns, flat.rows)
    columns = {name: [_plain(cell) for cell in flat.column(name)] for name in flat.columns}
    pq.write_table(pa.table(columns), parquet)
    md.write_text(markdown(sheet), encoding="utf-8")
    return [csv, parquet, md]


def markdown(sheet: Sheet) -> str:
    r"""Write it as Markdown, less its empty columns; what a cell says cannot end the cell.

    >>> print(markdown(Sheet(("run", "k"), [("a|b", 16)])), end="")
    | run | k |
    | :-- | --: |
    | a\|b | 16 |
    """
    sheet = sheet.filled()
    ruler = [":--" if is_text(sheet, name) else "--:" for name in sheet.columns]
    lines = [list(map(_escaped, sheet.columns)), ruler]
    lines += [[_escaped(shown(cell)) for cell in row] for row in sheet.rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def print_sheet(sheet: Sheet) -> None:
    """Print it less its empty columns; a narrow terminal wraps, a log does not cut it."""
    sheet = sheet.filled()
    table = RichTable(box=None, pad_edge=False, header_style="bold")
    for name in sheet.columns:
        justify = "left" if is_text(sheet, name) else "right"
        table.add_column(Text(name), no_wrap=True, justify=justify)
    for row in sheet.rows:
        table.add_row(*(Text(shown(cell)) for cell in row))
    wide = Console(width=10_000)
    width = Measurement.get(wide, wide.options, table).maximum
    Console(width=max(Console().width, width)).print(table)


def is_text(sheet: Sheet, name: str) -> bool:
    """Tell whether a column holds words."""
    return any(isinstance(cell, str) for cell in sheet.column(name))


def _is_there(cell: Cell) -> bool:
    if isinstance(cell, float):
        return isfinite(cell)
    return cell is not None and cell != ""


def _plain(cell: Cell) -> Cell:
    return None if isinstance(cell, float) and not isfinite(cell) else cell


def _escaped(text: str) -> str:
    return re.sub(r"([\\|<*`]|(?<=\])\()", r"\\\1", text.replace("\n", " "))
