"""Score every answer by a detector that never saw its group, every choice made inside.

Worker processes import this module, so it stays free of torch.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from threadpoolctl import threadpool_limits

from ghosttrack.detector.learners.calibration import calibrate, threshold
from ghosttrack.detector.learners.classifiers import Learner, Option
from ghosttrack.evaluation.selection import Inner, choose
from ghosttrack.evaluation.splits import Fold


class FoldFit(NamedTuple):
    """One detector in one outer fold."""

    oof: Float[np.ndarray, " train"]
    """Raw scores of the training rows, each from models of the other inner folds."""
    test: Float[np.ndarray, " test"]
    """Raw scores of the held-out rows."""
    prob: Float[np.ndarray, " test"]
    flagged: Bool[np.ndarray, " test"]
    option: Option
    """What the inner folds chose."""
    calibration: str


class CrossFit(NamedTuple):
    """One detector on all answers."""

    prob: Float[np.ndarray, " sample"]
    flagged: Bool[np.ndarray, " sample"]
    chosen: tuple[str, ...]
    """Per outer fold."""


def fit_fold(
    learner: Learner,
    labels: Int[np.ndarray, " sample"],
    fold: Fold,
    seed: int,
    option: Option | None = None,
) -> FoldFit:
    """Choose, calibrate and set the threshold in the inner folds, then score the held-out rows.

    Args:
        learner: Holds what the detector sees of all answers.
        labels: 1 = hallucinated; those of the fold's test rows are not looked at.
        fold: Training rows with their inner folds, and test rows.
        seed: Of forests and solvers.
        option: Chosen elsewhere already; None lets the inner folds choose.
    """
    with threadpool_limits(1):
        inner = Inner(learner, labels, fold, seed)
        if option is None:
            option, _, _, oof = choose(inner)
        else:
            oof = inner.out_of_fold(option)
        known = labels[fold.train]
        calibration = calibrate(oof, known, fold.inner)
        cut = threshold(calibration.prob(oof), known)
        test = learner.fit_predict(option, labels, fold.train, fold.test, seed)
        prob = calibration.prob(test)
        return FoldFit(oof, test, prob, prob >= cut, option, calibration.name)


def assemble(fits: list[FoldFit], folds: tuple[Fold, ...], n: int) -> CrossFit:
    """Put the held-out rows of all folds together."""
    prob, flagged = np.full(n, np.nan), np.zeros(n, dtype=bool)
    for fit, fold in zip(fits, folds, strict=True):
        prob[fold.test], flagged[fold.test] = fit.prob, fit.flagged
    assert np.isfinite(prob).all(), "an answer without a score"
    return CrossFit(prob, flagged, tuple(f"{fit.option.label}, {fit.calibration}" for fit in fits))


def stacked_column(fit: FoldFit, fold: Fold, n: int) -> Float[np.ndarray, " sample"]:
    """Turn a fold's scores into a column for another detector of the same fold.

    Training rows get their out-of-fold score, so the stack learns from scores as bad as those
    that it will meet.
    """
    column = np.empty(n)
    column[fold.train], column[fold.test] = fit.oof, fit.test
    return column
