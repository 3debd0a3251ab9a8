"""From a detector's raw score to a probability of hallucination, and to a threshold on it."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_curve

from ghosttrack.detector.learners.classifiers import WEAK_PENALTY, Labels, fit_logistic

PerSample = Float[np.ndarray, " sample"]
LEAST_SLOPE = 0.05
"""Per standard deviation of the score. A detector that found nothing keeps its order, and its
answers still differ by more than the base rates of two folds do."""
PLATT_SHARE = 0.1
"""Of the isotonic calibration: without it, steps would tie answers that the detector told apart."""
LEAST_PROB = 1e-6
"""A single answer that contradicts certainty must not decide between calibrations alone."""


class Steps(NamedTuple):
    """Isotonic regression: straight between its knots, flat outside."""

    knots: Float[np.ndarray, " knot"]
    levels: Float[np.ndarray, " knot"]


class Calibration(NamedTuple):
    """Strictly increasing map from raw scores to probabilities.

    p(s) = expit(slope * (s - center) / scale + intercept), or its mixture with a step function;
    logit p is then shifted.
    """

    center: float
    scale: float
    slope: float
    intercept: float
    steps: Steps | None
    shift: float = 0.0
    """What another share of hallucinated answers adds to the log-odds (`log_odds_ratio`)."""

    @property
    def name(self) -> str:
        """Platt or isotonic."""
        return "Platt" if self.steps is None else "isotonic"

    def prob(self, scores: PerSample) -> PerSample:
        """Probability of hallucination, in [0, 1]."""
        platt = expit(self.slope * (scores - self.center) / self.scale + self.intercept)
        if self.steps is None:
            return shifted(platt, self.shift)
        steps = np.interp(scores, *self.steps)
        return shifted(PLATT_SHARE * platt + (1 - PLATT_SHARE) * steps, self.shift)


def log_odds_ratio(base: float, prevalence: float) -> float:
    """Say by how much log-odds shift from one share of hallucinated answers to another.

    This is right where the shares differ and right and hallucinated answers each look as before.

    Source: Saerens, Latinne and Decaestecker 2002, equation 2.4.
    """
    return float(logit(prevalence) - logit(base))


def shifted(prob: PerSample, log_odds: float) -> PerSample:
    """Shift probabilities on the log-odds scale.

    >>> shifted(np.array([0.0, 0.5, 1.0]), log_odds_ratio(0.5, 0.1)).round(3).tolist()
    [0.0, 0.1, 1.0]
    """
    return expit(logit(prob) + log_odds) if log_odds else prob


def calibrate(scores: PerSample, labels: Labels, inner: Labels) -> Calibration:
    """Fit Platt's or isotonic calibration to out-of-fold scores, higher where hallucinated.

    The one is taken that predicts the inner folds better, each held out, by log-loss.
    """
    losses = {
        kind: sum(_held_out_loss(kind, scores, labels, inner == fold) for fold in np.unique(inner))
        for kind in (False, True)
    }
    return _fit(losses[True] < losses[False], scores, labels)


def threshold(prob: PerSample, labels: Labels) -> float:
    """Choose the probability from which on an answer is called hallucinated.

    It maximises balanced accuracy: the threshold of best F1 would have a weak detector flag all.
    """
    false_alarms, hits, thresholds = roc_curve(labels, prob)
    return float(min(thresholds[np.argmax(hits - false_alarms)], 1.0))


def _held_out_loss(
    isotonic: bool, scores: PerSample, labels: Labels, held_out: np.ndarray
) -> float:
    fitted = _fit(isotonic, scores[~held_out], labels[~held_out])
    prob = np.clip(fitted.prob(scores[held_out]), LEAST_PROB, 1 - LEAST_PROB)
    return -float(np.log(np.where(labels[held_out] == 1, prob, 1 - prob)).sum())


def _fit(isotonic: bool, scores: PerSample, labels: Labels) -> Calibration:
    center, scale = float(scores.mean()), float(scores.std()) or 1.0
    z = ((scores - center) / scale)[:, None]
    platt = fit_logistic(z, labels, WEAK_PENALTY)
    slope, intercept = float(platt.coef_[0, 0]), float(np.ravel(platt.intercept_)[0])
    if slope < LEAST_SLOPE:
        slope, intercept = LEAST_SLOPE, float(logit(labels.mean()))
    return Calibration(
        center, scale, slope, intercept, _steps(scores, labels) if isotonic else None
    )


def _steps(scores: PerSample, labels: Labels) -> Steps:
    fitted = IsotonicRegression(out_of_bounds="clip").fit(scores, labels)
    return Steps(fitted.X_thresholds_, fitted.y_thresholds_)
