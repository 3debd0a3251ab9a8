"""Output scores: what one pass over an answer says about it by token probabilities alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from ghosttrack.detector.table import (
    FRACTION,
    LOG_PROB,
    POSITIVE,
    Range,
    StatisticSpec,
    Table,
    define,
)
from ghosttrack.models.score import TokenScores

Said = TypeVar("Said")


@dataclass(frozen=True)
class Score(Generic[Said]):
    """A score and how it is read off what was said."""

    spec: StatisticSpec
    of: Callable[[Said], float]


def scores(
    family: str, *rows: tuple[str, Range, int, str, Callable[[Said], float]], prefix: str = ""
) -> tuple[Score[Said], ...]:
    """Read a family's rows as `define` does, each with its formula at the end."""
    return tuple(Score(define(family, row[:4], prefix=prefix)[0], row[4]) for row in rows)


def score_table(scores: Sequence[Score[Said]], said: Sequence[Said | None]) -> Table:
    """Read every score off each answer; NaN for one of which nothing is known."""
    values = np.full((len(said), len(scores)), np.nan)
    for row, one in enumerate(said):
        if one is not None:
            values[row] = [score.of(one) for score in scores]
    return Table(tuple(score.spec.name for score in scores), values)


OUTPUT_SCORES: tuple[Score[TokenScores], ...] = scores(
    "output",
    ("mean_logprob", LOG_PROB, -1, "mean token log-probability", lambda t: t.logprobs.mean()),
    ("min_logprob", LOG_PROB, -1, "least token log-probability", lambda t: t.logprobs.min()),
    ("first_logprob", LOG_PROB, -1, "first token's log-probability", lambda t: t.logprobs[0]),
    ("answer_logprob", LOG_PROB, -1, "whole answer's log-probability", lambda t: t.logprobs.sum()),
    ("mean_entropy", POSITIVE, +1, "mean next-token entropy", lambda t: t.entropies.mean()),
    ("max_entropy", POSITIVE, +1, "greatest next-token entropy", lambda t: t.entropies.max()),
    ("first_entropy", POSITIVE, +1, "entropy at the first token", lambda t: t.entropies[0]),
    ("min_margin", POSITIVE, -1, "least log-ratio of the two best", lambda t: t.margins.min()),
    ("first_margin", POSITIVE, -1, "first token's log-ratio", lambda t: t.margins[0]),
    ("min_max_prob", FRACTION, -1, "least top probability", lambda t: t.max_probs.min()),
)
"""Every output score; the number of tokens is not among them, it names the kind of answer."""
LOGPROB_SCORES = OUTPUT_SCORES[:4]
"""Those that ask for no more than what an API tells of its answer."""


def logprob_scores(answers: Sequence[Sequence[float]]) -> Table:
    """Read `LOGPROB_SCORES` off tokens' log-probabilities; NaN for an answer that has none."""
    said = [
        TokenScores(np.array(one), *[np.empty(0)] * 3, argmax_agrees=True) if one else None
        for one in answers
    ]
    return score_table(LOGPROB_SCORES, said)


def output_scores(answers: Sequence[TokenScores]) -> Table:
    """Read every output score off each answer; none is without tokens."""
    return score_table(OUTPUT_SCORES, answers)
