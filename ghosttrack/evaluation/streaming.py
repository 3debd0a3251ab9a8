"""Detectors that speak while an answer is written."""

import numpy as np

from ghosttrack.detector.learners.classifiers import BOOSTING, LINEAR, Columns, Known, screen
from ghosttrack.detector.learners.token_risk import MOST_TOKENS, STREAMING, SoFar
from ghosttrack.evaluation.data import EvaluationData

EARLY, LEAST_LONGER = (1, 2, 4), 0.05
"""After how many tokens, where so large a share of the answers goes on."""


def n_tokens(data: EvaluationData) -> dict[str, int]:
    """Name the streaming detectors, and after how many tokens they speak."""
    lengths = np.array([len(ids) for ids in data.answers.token_ids])
    early = [t for t in EARLY if np.mean(lengths > t) >= LEAST_LONGER]
    return {**{f"{STREAMING}:{t}": t for t in early}, STREAMING: MOST_TOKENS}


def so_far(
    name: str, data: EvaluationData, train: Known
) -> tuple[SoFar, tuple[str, ...], tuple[str, ...]] | None:
    """Make one's learner for a fold, with columns dropped and kept; None where none is left."""
    assert data.tokens is not None, "no tokens to learn from"
    answer = data.token_answer
    kept, dropped = screen(data.tokens, np.flatnonzero(np.isin(answer, train)))
    if not kept:
        return None
    columns = Columns(np.ascontiguousarray(data.tokens.values[:, kept]), LINEAR + BOOSTING)
    names = tuple(_full_name(data.tokens.names[at], data) for at in kept)
    return SoFar(columns, answer, n_tokens(data)[name]), dropped, names


def _full_name(column: str, data: EvaluationData) -> str:
    """Say which table a column is of."""
    return f"{'output' if column in data.answers.output.names else 'tracks'}:{column}"
