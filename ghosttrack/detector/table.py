"""Named columns of numbers, one row per answer, and what each column says about itself."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.lib
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from ghosttrack.errors import DataError

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


@dataclass(frozen=True)
class Table:
    """Statistics or scores of all answers, in the answers' order.

    Attributes:
        names: One per column, unique, in column order.
        values: NaN where a statistic is not defined for an answer.
    """

    names: tuple[str, ...]
    values: Float[np.ndarray, "sample column"]

    def __post_init__(self) -> None:
        assert self.values.ndim == 2, f"values must be a matrix, got {self.values.ndim} axes"
        assert len(self.names) == self.values.shape[1], (
            f"{len(self.names)} names for {self.values.shape[1]} columns"
        )
        repeated = sorted(name for name, n in Counter(self.names).items() if n > 1)
        assert not repeated, f"columns named twice: {', '.join(repeated)}"

    @classmethod
    def of(
        cls, specs: Sequence[StatisticSpec], columns: Mapping[str, Float[np.ndarray, " sample"]]
    ) -> "Table":
        """Set columns side by side in the order of their specs; each has one."""
        names = tuple(spec.name for spec in specs)
        assert set(names) == set(columns), set(names) ^ set(columns)
        return cls(names, np.stack([columns[name].astype(np.float64) for name in names], axis=1))

    def __len__(self) -> int:
        return len(self.values)

    def column(self, name: str) -> Float[np.ndarray, " sample"]:
        """Look up one column.

        Raises:
            KeyError: No column has this name.
        """
        if name not in self.names:
            raise KeyError(name)
        return self.values[:, self.names.index(name)]

    def take(self, rows: Int[np.ndarray, " row"]) -> "Table":
        """Choose rows, in this order; one may come more than once."""
        return Table(self.names, self.values[rows])

    def select(self, names: Iterable[str]) -> "Table":
        """Keep these columns, in the order asked for.

        Raises:
            KeyError: A name is not a column.
        """
        names = tuple(names)
        if not names:
            return Table((), self.values[:, :0])
        return Table(names, np.stack([self.column(name) for name in names], axis=1))

    def concat(self, *others: "Table") -> "Table":
        """Set other tables of the same answers beside this one; no name may repeat."""
        tables = (self, *others)
        sizes = {len(table) for table in tables}
        assert len(sizes) == 1, f"tables of different answers: {sorted(sizes)} rows"
        names = tuple(name for table in tables for name in table.names)
        return Table(names, np.concatenate([table.values for table in tables], axis=1))

    def save(self, path: Path) -> None:
        """Write Parquet, a column per name; the same table gives the same bytes."""
        assert self.names, "a table without columns cannot keep its number of rows"
        columns = [pa.array(column) for column in self.values.T]
        pq.write_table(pa.Table.from_arrays(columns, names=list(self.names)), path)

    @classmethod
    def load(cls, path: Path) -> "Table":
        """Read what `save` wrote.

        Raises:
            DataError: The file is missing, no Parquet, or holds a column that is not numbers.
        """
        stored = read_parquet(path, "a table of numbers")
        for field in stored.schema:
            if not pa.types.is_floating(field.type):
                raise DataError(f"{path}: column {field.name} holds {field.type}, not numbers")
        values = np.stack([column.to_numpy() for column in stored.columns], axis=1)
        return cls(tuple(stored.column_names), values)


def read_parquet(path: Path, what: str) -> pa.Table:
    """Read a file that should hold `what`.

    Raises:
        DataError: It is missing, or no Parquet.
    """
    try:
        return pq.read_table(path)
    except (OSError, pyarrow.lib.ArrowInvalid) as fault:
        raise DataError(f"{path}: cannot be read as {what}: {fault}") from fault
