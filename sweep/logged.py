"""What a run's CSV log holds, which every run writes."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ghosttrack.analysis.runs import in_order
from ghosttrack.command import say
from ghosttrack.errors import DataError, whole

CSVS = "lightning_logs/version_*/metrics.csv"
"""One of each time that the run was started."""
USAGE = "machine/"
"""Begins the names of what was used of the machine."""


class Logged(NamedTuple):
    """Rows in the order of their steps, each with `step` and what was logged at it, or NaN."""

    history: pd.DataFrame

    def series(self, name: str) -> tuple[list[float], list[float]]:
        """Take steps and values of one quantity."""
        rows = self.history.reindex(columns=["step", name]).dropna()
        return rows["step"].tolist(), rows[name].tolist()

    def names(self, prefix: str) -> list[str]:
        """List the quantities whose names begin so, numbers in them in their order."""
        filled = self.history.dropna(axis="columns", how="all")
        return sorted((name for name in filled if str(name).startswith(prefix)), key=in_order)

    def used(self) -> dict[str, list[float]]:
        """Take every quantity that tells what of the machine was used."""
        return {name.removeprefix(USAGE): self.series(name)[1] for name in self.names(USAGE)}


def read_logged(folder: Path) -> Logged:
    """Read the CSV files in a run's folder; there may be none.

    One that cannot be read is left out, with a line.
    """
    found = [pd.DataFrame({"step": []}, dtype=float)]
    for path in sorted(folder.glob(CSVS)):
        try:
            with whole(path):
                found.append(pd.read_csv(path, dtype=str).astype(float))
        except DataError as error:
            say(f"left out: {error}")
    return Logged(pd.concat(found).sort_values("step", kind="stable", na_position="first"))
