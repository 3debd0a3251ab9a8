"""Shapes of SAEs, width and sparsity: read a grid of them and choose."""

from collections.abc import Iterable, Sequence
from math import inf, isfinite
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ghosttrack.analysis.runs import BankRecord
from ghosttrack.errors import DataError
from ghosttrack.report.sheet import sheet_of

LEAST_EXPLAINED, MOST_DEAD = 0.70, 0.50
BOUNDS = {
    "d_sae": (1, inf),
    "k": (1, inf),
    "explained_variance": (-inf, 1),
    "dead_frac": (0, 1),
}
"""What numbers can be in the columns of a CSV file that are read."""
NUMBERS = tuple(BOUNDS)


class Shape(NamedTuple):
    """A pair of width and sparsity, and how well its SAEs do on average."""

    d_sae: int
    k: int
    explained_variance: float
    dead_frac: float
    n_banks: int = 1

    @property
    def passes(self) -> bool:
        """Whether the rule takes it into account."""
        return self.explained_variance >= LEAST_EXPLAINED and self.dead_frac <= MOST_DEAD

    def beats(self, other: "Shape") -> bool:
        """Whether it is as good in all that the front is about, and better in something."""
        mine = (self.explained_variance, -self.dead_frac, -self.k)
        its = (other.explained_variance, -other.dead_frac, -other.k)
        return mine != its and all(a >= b for a, b in zip(mine, its, strict=True))


def sweet_spot(shapes: Sequence[Shape]) -> Shape:
    """Apply the rule.

    Raises:
        DataError: No shape passes.
    """
    passing = [shape for shape in shapes if shape.passes]
    if not passing:
        best = max(shapes, key=lambda shape: (shape.explained_variance, -shape.dead_frac))
        raise DataError(
            f"no sweet spot: none of {len(shapes)} shapes has explained variance >="
            f" {LEAST_EXPLAINED} and dead fraction <= {MOST_DEAD}; the highest explained variance"
            f" is {best.explained_variance:.3f}, with {best.dead_frac:.3f} dead, at"
            f" d_sae={best.d_sae} k={best.k}"
        )
    return max(passing, key=lambda shape: (shape.explained_variance, -shape.dead_frac))


def front(shapes: Iterable[Shape]) -> list[Shape]:
    """List the shapes that no other beats; one with a NaN is not among them.

    >>> a, b, c = Shape(8, 4, 0.9, 0.1), Shape(8, 2, 0.8, 0.1), Shape(8, 4, 0.85, 0.1)
    >>> front([a, b, c]) == [a, b]
    True
    """
    every = [one for one in shapes if isfinite(one.explained_variance + one.dead_frac)]
    return [one for one in every if not any(other.beats(one) for other in every)]


def shapes_of(banks: Iterable[BankRecord]) -> list[Shape]:
    """Average banks of one width and sparsity, as of several seeds.

    Raises:
        DataError: No bank has numbers, or banks are not alike.
    """
    every = list(banks)
    kinds = {f"{bank.architecture} of {bank.model}" for bank in every}
    if not kinds:
        raise DataError("no run there made an SAE bank")
    if len(kinds) > 1:
        raise DataError(f"one grid at a time, these are {', '.join(sorted(kinds))}")
    if len({tuple(hook["hook"] for hook in bank.hooks) for bank in every}) > 1:
        raise DataError("one grid at a time, these banks have different hook points")
    return _averaged(
        Shape(bank.d_sae, bank.k, _mean(bank, "explained_variance"), _mean(bank, "dead_frac"))
        for bank in every
    )


def _mean(bank: BankRecord, name: str) -> float:
    value = bank.mean(name)
    if value is None:
        raise DataError(f"a bank of d_sae={bank.d_sae} k={bank.k} lacks {name}")
    return value


def _averaged(shapes: Iterable[Shape]) -> list[Shape]:
    every = pd.DataFrame(list(shapes)).drop(columns="n_banks")
    grouped = every.groupby(["d_sae", "k"], sort=False)
    means = pd.DataFrame(grouped.mean(skipna=False))
    averaged = means.assign(n_banks=grouped.size()).reset_index()
    return [Shape(*row) for row in averaged.itertuples(index=False, name=None)]


def read_shapes(path: Path) -> list[Shape]:
    """Read `NUMBERS` from a CSV file and average rows of one width and sparsity.

    A row without numbers, as of a failed job, does not count.

    Raises:
        DataError: It lacks a column, a number is none or cannot be, or there is no row.
    """
    try:
        table = pd.read_csv(
            path, dtype=str, encoding="utf-8-sig", index_col=False, keep_default_na=False,
            skip_blank_lines=False,
        )  # fmt: skip
    except pd.errors.EmptyDataError:
        table = pd.DataFrame()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error})") from error
    if missing := [name for name in NUMBERS if name not in table]:
        raise DataError(f"{path}: lacks the column {', '.join(missing)}")
    shapes = []
    for line, cells in enumerate(table.fillna("").to_dict("records"), start=2):
        if cells["explained_variance"].strip() or cells["dead_frac"].strip():
            place = f"{path}: line {line}"
            d_sae, k, explained, dead = (
                _number(place, name, cells[name].strip()) for name in NUMBERS
            )
            shapes.append(Shape(int(d_sae), int(k), explained, dead))
    if not shapes:
        raise DataError(f"{path}: has no row of numbers")
    return _averaged(shapes)


def _number(place: str, name: str, cell: str) -> int | float:
    try:
        number = int(cell) if name in ("d_sae", "k") else float(cell)
    except ValueError as error:
        raise DataError(f"{place}: {name} is no number: {cell!r}") from error
    low, high = BOUNDS[name]
    if not (low <= number <= high and abs(number) < inf):
        raise DataError(f"{place}: {name} cannot be {cell}")
    return number


def shapes_sheet(shapes: Sequence[Shape], best: Shape) -> pd.DataFrame:
    """Say of each shape how it stands to the rule, the front and the choice."""
    best_ones = front(shapes)
    rows = [
        (
            *shape,
            "yes" if shape.passes else "no",
            "yes" if shape in best_ones else "no",
            "<- sweet spot" if shape == best else None,
        )
        for shape in sorted(shapes)
    ]
    return sheet_of((*NUMBERS, "banks", "passes", "on the front", "chosen"), rows)
