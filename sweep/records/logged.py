"""What a run's CSV log holds, which every run writes."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ghosttrack.analysis.runs import in_order
from ghosttrack.command import say
from ghosttrack.errors import DataError, whole

CSVS = "lightning_logs/version_*/metrics.csv"
"""One of each time that the run was started."""
USAGE = "machine/"
"""Begins the names of what was used of the machine."""

Numbers = dict[str, float]


class Logged(NamedTuple):
    """Rows in the order of their steps, each with `step` and what was logged at it."""

    history: list[Numbers]

    def series(self, name: str) -> tuple[list[float], list[float]]:
        """Take steps and values of one quantity."""
        rows = [(row["step"], row[name]) for row in self.history if name in row and "step" in row]
        return [step for step, _ in rows], [value for _, value in rows]

    def names(self, prefix: str) -> list[str]:
        """List the quantities whose names begin so, numbers in them in their order."""
        names = {name for row in self.history for name in row}
        return sorted((name for name in names if name.startswith(prefix)), key=in_order)

    def used(self) -> dict[str, list[float]]:
        """Take every quantity that tells what of the machine was used."""
        return {name.removeprefix(USAGE): self.series(name)[1] for name in self.names(USAGE)}


def read_logged(folder: Path) -> Logged:
    """Read the CSV files in a run's folder; there may be none.

    One that cannot be read is left out, with a line.
    """
    history: list[Numbers] = []
    for path in sorted(folder.glob(CSVS)):
        try:
            with whole(path):
                history += list(_rows(path))
        except DataError as error:
            say(f"left out: {error}")
    return Logged(sorted(history, key=lambda row: row.get("step", -1)))


def _rows(path: Path) -> Iterator[Numbers]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield {name: float(text) for name, text in row.items() if text}
