"""What a column of the detector says about itself: one form for every family."""

from typing import NamedTuple


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
