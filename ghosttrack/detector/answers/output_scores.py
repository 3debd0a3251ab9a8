"""Output scores: what one pass over an answer says about it by token probabilities alone."""

from collections.abc import Callable, Sequence
from math import inf
from typing import NamedTuple

import numpy as np

from ghosttrack.detector.spec import StatisticSpec
from ghosttrack.detector.table import Table
from ghosttrack.models.score import TokenScores


class OutputScore(NamedTuple):
    """A score and how it is read off an answer's tokens."""

    spec: StatisticSpec
    of: Callable[[TokenScores], float]


def _score(
    name: str,
    definition: str,
    bounds: tuple[float, float],
    direction: int,
    of: Callable[[TokenScores], float],
) -> OutputScore:
    return OutputScore(StatisticSpec(name, "output", definition, *bounds, direction), of)


LOG = (-inf, 0.0)
NATS = (0.0, inf)
FRACTION = (0.0, 1.0)

LOGPROB_SCORES: tuple[OutputScore, ...] = (
    _score("mean_logprob", "mean token log-probability", LOG, -1, lambda t: t.logprobs.mean()),
    _score("min_logprob", "least token log-probability", LOG, -1, lambda t: t.logprobs.min()),
    _score("first_logprob", "first token's log-probability", LOG, -1, lambda t: t.logprobs[0]),
    _score("answer_logprob", "whole answer's log-probability", LOG, -1, lambda t: t.logprobs.sum()),
)
"""Those that ask for no more than what an API tells of its answer."""

OUTPUT_SCORES: tuple[OutputScore, ...] = (
    *LOGPROB_SCORES,
    _score("mean_entropy", "mean next-token entropy", NATS, +1, lambda t: t.entropies.mean()),
    _score("max_entropy", "greatest next-token entropy", NATS, +1, lambda t: t.entropies.max()),
    _score("first_entropy", "entropy at the first token", NATS, +1, lambda t: t.entropies[0]),
    _score("min_margin", "least log-ratio of the two best", NATS, -1, lambda t: t.margins.min()),
    _score("first_margin", "first token's log-ratio", NATS, -1, lambda t: t.margins[0]),
    _score("min_max_prob", "least top probability", FRACTION, -1, lambda t: t.max_probs.min()),
)
"""Every output score; the number of tokens is not among them, it names the kind of answer."""


def logprob_scores(answers: Sequence[Sequence[float]]) -> Table:
    """Read `LOGPROB_SCORES` off tokens' log-probabilities; NaN for an answer that has none."""
    values = np.full((len(answers), len(LOGPROB_SCORES)), np.nan)
    for row, logprobs in enumerate(answers):
        if logprobs:
            tokens = TokenScores(np.array(logprobs), *[np.empty(0)] * 3, argmax_agrees=True)
            values[row] = [score.of(tokens) for score in LOGPROB_SCORES]
    return Table(tuple(score.spec.name for score in LOGPROB_SCORES), values)


def output_scores(answers: Sequence[TokenScores]) -> Table:
    """Read every output score off each answer; none is without tokens."""
    values = [[score.of(tokens) for score in OUTPUT_SCORES] for tokens in answers]
    shape = (len(answers), len(OUTPUT_SCORES))
    names = tuple(score.spec.name for score in OUTPUT_SCORES)
    return Table(names, np.asarray(values, dtype=np.float64).reshape(shape))
