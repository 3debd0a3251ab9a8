"""Shapes of SAEs, width and sparsity: read a grid of them and choose."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ghosttrack.errors import DataError
from sweep.records.runs import BankRecord

LEAST_EXPLAINED, MOST_DEAD = 0.70, 0.50
NUMBERS = ("d_sae", "k", "explained_variance", "dead_frac")
"""Columns of a CSV file that are read."""


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
    """List the shapes that no other beats.

    >>> a, b, c = Shape(8, 4, 0.9, 0.1), Shape(8, 2, 0.8, 0.1), Shape(8, 4, 0.85, 0.1)
    >>> front([a, b, c]) == [a, b]
    True
    """
    every = list(shapes)
    return [one for one in every if not any(other.beats(one) for other in every)]


def shapes_of(banks: Iterable[BankRecord]) -> list[Shape]:
    """Average banks of one width and sparsity, as of several seeds.

    Raises:
        DataError: No bank has numbers, or banks are not alike.
    """
    grouped: dict[tuple[int, int], list[BankRecord]] = {}
    kinds = set()
    for bank in banks:
        grouped.setdefault((bank.d_sae, bank.k), []).append(bank)
        kinds.add(f"{bank.architecture} of {bank.model}")
    if not kinds:
        raise DataError("no run there made an SAE bank")
    if len(kinds) > 1:
        raise DataError(f"one grid at a time, these are {', '.join(sorted(kinds))}")
    return [
        Shape(*shape, _mean(some, "explained_variance"), _mean(some, "dead_frac"), len(some))
        for shape, some in grouped.items()
    ]


def _mean(banks: Sequence[BankRecord], name: str) -> float:
    values = [value for bank in banks if (value := bank.mean(name)) is not None]
    if len(values) < len(banks):
        raise DataError(f"a bank of d_sae={banks[0].d_sae} k={banks[0].k} lacks {name}")
    return sum(values) / len(values)


def read_shapes(path: Path) -> list[Shape]:
    """Read `NUMBERS` from a CSV file; a row without numbers, as of a failed job, does not count.

    Raises:
        DataError: It lacks a column, a number is none, or there is no row.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            header = reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error})") from error
    if missing := [name for name in NUMBERS if name not in header]:
        raise DataError(f"{path}: lacks the column {', '.join(missing)}")
    shapes = []
    for line, row in enumerate(rows, start=2):
        cells = [(row[name] or "").strip() for name in NUMBERS]
        if not any(cells[2:]):
            continue
        try:
            shapes.append(Shape(int(cells[0]), int(cells[1]), float(cells[2]), float(cells[3])))
        except ValueError as error:
            raise DataError(
                f"{path}: row {line} holds no number where it should: {error}"
            ) from error
    if not shapes:
        raise DataError(f"{path}: has no row of numbers")
    return shapes
