"""Two scores of the same answers, set side by side."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ghosttrack.detector.learners.classifiers import LabelFree
from ghosttrack.evaluation.data import EvaluationData
from ghosttrack.evaluation.scores import plain_auroc
from ghosttrack.evaluation.spec import DetectorSpec, Inputs, untrained
from tests.parity.asked import Asked

SAME_VALUE, SAME_AUROC = 1e-4, 0.005


class Method(NamedTuple):
    """A method that both have."""

    name: str
    """Theirs."""
    row: DetectorSpec
    """Ours."""
    theirs: Callable[[Asked], np.ndarray]
    """Higher where hallucinated."""
    scaled: Callable[[np.ndarray], np.ndarray] = lambda ours: ours
    """Puts our values, higher where hallucinated, on their scale."""
    scale: str = ""
    """The same in words."""
    differs: str = ""
    """What else than the scale differs; empty: nothing may."""


class Compared(NamedTuple):
    """What both say."""

    method: Method
    ours: float
    theirs: float
    """AUROC."""
    largest: float
    """Difference of two values of one answer, on their scale."""

    @property
    def is_same(self) -> bool:
        return self.largest <= SAME_VALUE and abs(self.ours - self.theirs) <= SAME_AUROC


def column(table: str, name: str, sign: int) -> DetectorSpec:
    """Make the row of a column that no row of the roster reads alone."""
    return untrained(f"{table}: {name}", "", (table, name), sign)


def compare(asked: Asked, methods: Sequence[Method]) -> list[Compared]:
    labels, found = asked.answers.labels, []
    for method in methods:
        ours, theirs = values(method.row, asked), np.asarray(method.theirs(asked), dtype=np.float64)
        aurocs = plain_auroc(labels, ours), plain_auroc(labels, theirs.round(9))
        found.append(Compared(method, *aurocs, float(np.abs(method.scaled(ours) - theirs).max())))
    return found


def values(row: DetectorSpec, asked: Asked) -> np.ndarray:
    """Give what a row of one score says, higher where hallucinated."""
    read = [(table, name) for table, names in row.reads.items() for name in names]
    columns = np.column_stack([asked.tables[table].column(name) for table, name in read])
    data = EvaluationData(asked.answers, asked.tables, {})
    names, directions = tuple(name for _, name in read), np.zeros(len(read), dtype=np.int64)
    learner = row.learner(Inputs(names, columns, directions, data))
    assert isinstance(learner, LabelFree)
    return learner.values[:, 0].round(9) * learner.directions[0]
