"""What a run's logger wrote while it trained, whichever logger it was."""

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ghosttrack.errors import DataError, whole
from sweep.command import say
from sweep.records.runs import in_order
from sweep.records.wandb_run import read_run

STEPS = ("step", "trainer/global_step")
"""Where CSV and W&B keep the step."""
USAGE = re.compile(r"gpu\.|(proc\.)?memory|cpu$|.*(memory|allocated_bytes|cpu_percent)")
"""Names of quantities that tell what of the machine was used."""

Numbers = dict[str, float]


class Logged(NamedTuple):
    """Rows in the order of their steps, each with `step` and what was logged at it."""

    history: list[Numbers]
    usage: list[Numbers]
    """GPU, memory and processor, at moments that nobody counted."""

    def series(self, name: str) -> tuple[list[float], list[float]]:
        """Take steps and values of one quantity."""
        rows = [(row["step"], row[name]) for row in self.history if name in row and "step" in row]
        return [step for step, _ in rows], [value for _, value in rows]

    def names(self, prefix: str) -> list[str]:
        """List the quantities whose names begin so, numbers in them in their order."""
        return [name for name in _names(self.history) if name.startswith(prefix)]

    def used(self) -> dict[str, list[float]]:
        """Take every quantity of usage."""
        return {
            name: [row[name] for row in self.usage if name in row] for name in _names(self.usage)
        }


def read_logged(folder: Path) -> Logged:
    """Read the loggers' files in a run's folder; there may be none.

    One that cannot be read is left out, with a line.
    """
    history, usage = [], []
    csvs, wandbs = "lightning_logs/version_*/metrics.csv", "wandb/*run-*/run-*.wandb"
    for path in sorted([*folder.glob(csvs), *folder.glob(wandbs)]):
        try:
            with whole(path):
                rows, system = _read(path)
        except DataError as error:
            say(f"left out: {error}")
        else:
            history += rows
            usage += system
    usage = [*usage, *history]
    used = [{name: row[name] for name in row if USAGE.match(name)} for row in usage]
    history.sort(key=lambda row: row.get("step", -1))
    return Logged(history, [row for row in used if row])


def _read(path: Path) -> tuple[list[Numbers], list[Numbers]]:
    if path.suffix == ".csv":
        return list(_csv_rows(path)), []
    run = read_run(path)
    return [_numbers(row) for row in run.history], [_numbers(row) for row in run.system]


def _csv_rows(path: Path) -> Iterator[Numbers]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield _numbers({name: float(text) for name, text in row.items() if text})


def _numbers(row: Mapping[str, object]) -> Numbers:
    found = {name: float(value) for name, value in row.items() if isinstance(value, int | float)}
    step = next((found[name] for name in reversed(STEPS) if name in found), None)
    return found if step is None else {**found, "step": step}


def _names(rows: list[Numbers]) -> list[str]:
    """List every name once; W&B keeps a row's in no order."""
    return sorted({name for row in rows for name in row}, key=in_order)
