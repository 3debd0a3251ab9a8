"""How a number is spelt for people, and a cell in a CSV file."""

import csv
from collections.abc import Iterable, Sequence
from math import isfinite
from pathlib import Path

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that begins so for a formula."""


def number(value: float | None, digits: int = 3) -> str:
    """Format a number; what is not defined (None or NaN) becomes a dash.

    >>> number(0.5), number(float("nan"))
    ('0.500', '–')
    """
    return "–" if value is None or not isfinite(value) else f"{value:.{digits}f}"


def with_interval(value: float | None, interval: Sequence[float | None]) -> str:
    """Format a number with its interval.

    >>> with_interval(0.9, (0.85, 0.95))
    '0.900 [0.850, 0.950]'
    """
    low, high = interval
    return f"{number(value)} [{number(low)}, {number(high)}]"


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write CSV in UTF-8; a text that a spreadsheet would run as a formula gets a `'` before it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: object) -> object:
    if isinstance(value, float) and not isfinite(value):
        return ""
    return "'" + value if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value
