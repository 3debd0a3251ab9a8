"""From a detector's name to what learns in one fold, and the columns that it gets there."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ghosttrack.detector.answers.surface import surface_table
from ghosttrack.detector.learners.baselines import Distance, Latents, Probe, Words
from ghosttrack.detector.learners.classifiers import (
    BOOSTING,
    FOREST,
    BestColumn,
    Columns,
    Known,
    LabelFree,
    Learner,
    screen,
)
from ghosttrack.detector.learners.subject_known import SubjectKnown
from ghosttrack.detector.table import Table
from ghosttrack.evaluation.data import EvaluationData
from ghosttrack.evaluation.detectors import (
    DISTANCES,
    IDENTITY,
    LATENTS,
    LIGHT,
    PRESETS,
    PROBE,
    SUBJECT,
    SURFACE,
    UNTRAINED,
    Spec,
)
from ghosttrack.evaluation.streaming import n_tokens, so_far


class Prepared(NamedTuple):
    """A learner for one fold, with the columns that it does not get."""

    learner: Learner
    dropped: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """Of the columns that a learner of columns gets."""


def prepare(
    spec: Spec,
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
    alone = _alone(spec.name, data)
    if alone is not None:
        return Prepared(alone)
    if spec.name in n_tokens(data):
        streamed = so_far(spec.name, data, train)
        return Prepared(*streamed) if streamed is not None else None
    table = _joined(spec, data, scores)
    kept, dropped = screen(table, train)
    if spec.name == "label_free":
        kept = tuple(at for at in kept if data.directions.get(table.names[at]))
    if not kept:
        return None
    names = tuple(table.names[at] for at in kept)
    values = np.ascontiguousarray(table.values[:, kept], dtype=np.float64)
    return Prepared(_learner(spec.name, names, values, data), dropped, names)


def _learner(
    name: str,
    columns: tuple[str, ...],
    values: Float[np.ndarray, "sample column"],
    data: EvaluationData,
) -> Learner:
    """Choose what learns from the columns that were kept."""
    if name == "output_best":
        return BestColumn(values, columns)
    if name == "label_free":
        return LabelFree(values, np.array([data.directions[column] for column in columns]))
    if name in UNTRAINED:
        return LabelFree(values, np.array([UNTRAINED[name][2]]))
    values = np.where(np.isfinite(values), values, np.nan)
    if name in PRESETS:
        return Columns(values, BOOSTING)
    return Columns(values, challengers=() if name in LIGHT else FOREST)


def _alone(name: str, data: EvaluationData) -> Learner | None:
    """Make the learner of a detector that reads no table; None of any other."""
    if name == PROBE:
        return Probe(data.probes, data.layers)
    if name in DISTANCES:
        return Distance(data.probes, data.layers, DISTANCES[name])
    if name == LATENTS:
        return Latents(tuple(data.latents), data.layers)
    if name == SUBJECT:
        _, relation = np.unique(data.answers.relations, return_inverse=True)
        return SubjectKnown(tuple(data.subject_latents), data.layers, relation)
    return _words(name, data)


def _words(name: str, data: EvaluationData) -> Words | None:
    if name == "control:question_tfidf":
        return Words(data.answers.prompts, "word")
    if name == "control:answer_tfidf":
        return Words(data.answers.texts, "word")
    if name == IDENTITY:
        return Words(data.answers.texts, "whole")
    if name == "control:relation":
        return Words(data.answers.relations, "whole")
    return None


def _joined(
    spec: Spec, data: EvaluationData, scores: Mapping[str, Float[np.ndarray, " sample"]]
) -> Table:
    """Set a detector's tables and stacked scores side by side."""
    if spec.name == SURFACE:
        return surface_table(data.answers)
    seen = {name: data.tables[name] for name in spec.tables}
    seen |= {name: seen[name].select(columns) for name, columns in spec.columns.items() if columns}
    if len(seen) == 1 and not spec.stacked:
        return seen[spec.tables[0]]
    parts = [
        Table(tuple(f"{name}:{column}" for column in table.names), table.values)
        for name, table in seen.items()
    ]
    if spec.stacked:
        columns = np.stack([scores[name] for name in spec.stacked], axis=1)
        parts.append(Table(spec.stacked, columns))
    return parts[0].concat(*parts[1:])
