"""What the dashboard's template takes: sections of tables and figures."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from ghosttrack.report.sheet import spelled


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


def table(sheet: pd.DataFrame, title: str = "") -> PageTable:
    """Spell a table's cells, less its empty columns."""
    said = spelled(sheet)
    return PageTable(said.columns, [not one for one in said.is_text], said.rows, title)
