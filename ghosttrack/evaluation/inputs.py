"""From a detector and what was measured to what learns in one fold."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ghosttrack.detector.answers.surface import surface_table
from ghosttrack.detector.learners.classifiers import Known, Learner, screen
from ghosttrack.detector.learners.inputs import Inputs
from ghosttrack.detector.table import Table
from ghosttrack.evaluation.data import EvaluationData
from ghosttrack.evaluation.roster import DetectorSpec


class Prepared(NamedTuple):
    """A learner for one fold, with the columns that it does not get."""

    learner: Learner
    dropped: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """Of the columns that it gets, `<table>:<column>` each."""


def prepare(
    spec: DetectorSpec,
    data: EvaluationData,
    train: Known,
    scores: Mapping[str, Float[np.ndarray, " sample"]],
) -> Prepared | None:
    """Make a detector's learner for one outer fold; None where no column is left to learn from.

    Args:
        spec: Which detector.
        data: What there is.
        train: Training rows of the fold, on which columns are judged.
        scores: The fold's columns of stacked detectors.
    """
    by_token = "tokens" in spec.reads
    rows = np.flatnonzero(np.isin(data.token_answer, train)) if by_token else train
    table = _joined(spec, data, scores)
    kept, dropped = screen(table, rows)
    if table.names and not kept:
        return None
    names = tuple(table.names[at] for at in kept)
    learner = spec.learner(_inputs(names, table.values[:, kept], data))
    if learner is None:
        return None
    return Prepared(learner, dropped, tuple(_full_name(spec, name, data) for name in names))


def _inputs(
    names: tuple[str, ...], values: Float[np.ndarray, "row column"], data: EvaluationData
) -> Inputs:
    answers = data.answers
    defined = np.where(np.isfinite(values), values, np.nan)
    return Inputs(
        names=names,
        values=np.ascontiguousarray(defined, dtype=np.float64),
        directions=np.array([data.directions.get(name, 0) for name in names], dtype=np.int64),
        residuals=data.probes,
        latents=tuple(data.latents),
        subject_latents=tuple(data.subject_latents),
        layers=data.layers,
        prompts=answers.prompts,
        texts=answers.texts,
        relations=answers.relations,
        token_answer=data.token_answer,
    )


def _joined(
    spec: DetectorSpec, data: EvaluationData, scores: Mapping[str, Float[np.ndarray, " sample"]]
) -> Table:
    """Set a detector's tables and stacked scores side by side."""
    seen = {name: _table(name, data) for name in spec.reads}
    seen |= {name: seen[name].select(columns) for name, columns in spec.reads.items() if columns}
    if len(seen) == 1 and not spec.stacked:
        return next(iter(seen.values()))
    parts = [
        Table(tuple(f"{name}:{column}" for column in table.names), table.values)
        for name, table in seen.items()
    ]
    if spec.stacked:
        columns = np.stack([scores[name] for name in spec.stacked], axis=1)
        parts.append(Table(spec.stacked, columns))
    nothing = Table((), np.empty((len(data.answers), 0)))
    return parts[0].concat(*parts[1:]) if parts else nothing


def _table(name: str, data: EvaluationData) -> Table:
    if name == "surface":
        return surface_table(data.answers)
    if name == "tokens":
        assert data.tokens is not None, "no tokens to learn from"
        return data.tokens
    return data.tables[name]


def _full_name(spec: DetectorSpec, column: str, data: EvaluationData) -> str:
    """Say which table a column is of, where its name does not."""
    if "tokens" in spec.reads:
        return f"{'output' if column in data.answers.output.names else 'tracks'}:{column}"
    return column if ":" in column or not spec.reads else f"{next(iter(spec.reads))}:{column}"
