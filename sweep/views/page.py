"""What the dashboard's template takes: sections of tables and figures."""

from collections.abc import Sequence
from typing import NamedTuple

from ghosttrack.report.sheet import Sheet, is_text, shown


class Picture(NamedTuple):
    """A figure in the page."""

    data: str
    caption: str
    width: int = 1100


class PageTable(NamedTuple):
    """A table in the page, every cell spelled."""

    columns: Sequence[str]
    is_number: Sequence[bool]
    rows: Sequence[Sequence[str]]
    title: str = ""
    """Where it has one it is folded away."""


class Section(NamedTuple):
    """A heading with what stands below it."""

    anchor: str
    title: str
    note: str
    tables: Sequence[PageTable] = ()
    figures: Sequence[Picture] = ()
    links: Sequence[tuple[str, str]] = ()


def table(sheet: Sheet, title: str = "") -> PageTable:
    """Spell a table's cells, less its empty columns."""
    sheet = sheet.filled()
    is_number = [not is_text(sheet, name) for name in sheet.columns]
    cells = [[shown(cell) for cell in row] for row in sheet.rows]
    return PageTable(sheet.columns, is_number, cells, title)
