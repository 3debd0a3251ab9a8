"""What a column of the detector says about itself: one form for every family."""

from math import inf
from typing import NamedTuple

Range = tuple[float, float]
FRACTION: Range = (0.0, 1.0)
SIGNED: Range = (-1.0, 1.0)
POSITIVE: Range = (0.0, inf)
REAL: Range = (-inf, inf)
LOG_PROB: Range = (-inf, 0.0)


class StatisticSpec(NamedTuple):
    """One input column of the detector, described before any label is seen."""

    name: str
    family: str
    definition: str
    low: float
    """Least value that it can take."""
    high: float
    """Greatest value that it can take."""
    direction: int
    """+1: higher where hallucinated is expected, -1: lower, 0: exploratory, no expectation."""


def define(
    family: str, *rows: tuple[str, Range, int, str], prefix: str = ""
) -> tuple[StatisticSpec, ...]:
    """Read a family's rows of name, less the prefix, range, expected direction and definition."""
    return tuple(
        StatisticSpec(prefix + name, family, definition, low, high, direction)
        for name, (low, high), direction, definition in rows
    )
