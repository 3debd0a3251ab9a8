"""How far risks can be believed where another share of the answers is hallucinated."""

from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Float, Int

from ghosttrack.detector.learners.calibration import log_odds_ratio, shifted
from ghosttrack.evaluation.result import Reliability
from ghosttrack.evaluation.scores import smooth_ece

PREVALENCES = (0.1, 0.5)
"""Shares of hallucinated answers at which reliability is told."""


def reliability(
    probs: Mapping[str, Float[np.ndarray, " sample"]],
    labels: Int[np.ndarray, " sample"],
    prevalences: Iterable[float],
) -> tuple[Reliability, ...]:
    """Judge calibrated probabilities where other shares are hallucinated, as they are and shifted.

    Right and hallucinated answers are weighted to these shares: they are the same answers, only as
    many more or fewer of them.
    """
    base = float(labels.mean())
    found = []
    for name, prob in probs.items():
        for share in sorted({*prevalences}):
            weights = np.where(labels == 1, share / base, (1 - share) / (1 - base))
            moved = shifted(prob, log_odds_ratio(base, share))
            errors = (smooth_ece(labels, one, weights) for one in (prob, moved))
            found.append(Reliability(name, share, *errors))
    return tuple(found)
