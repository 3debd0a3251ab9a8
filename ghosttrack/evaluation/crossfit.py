"""Score every answer by a detector that never saw its group, every choice made inside.

Worker processes import this module, so it stays free of torch.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from threadpoolctl import threadpool_limits

from ghosttrack.detector.learners.calibration import calibrate, threshold
from ghosttrack.detector.learners.classifiers import Learner, Option
from ghosttrack.evaluation.scores import plain_auroc
from ghosttrack.evaluation.splits import INNER_FOLDS, Fold

HOPELESS = 0.015
"""An option this far behind in the first inner fold is not tried on the others. At 850 rows the
difference of two detectors that correlate has a standard deviation of about half of it."""


class Tried(NamedTuple):
    """An option after all inner folds."""

    option: Option
    auroc: float
    """Mean over the inner folds that hold both labels."""
    first: float
    """In the first inner fold alone."""
    oof: Float[np.ndarray, " train"]


class Inner(NamedTuple):
    """A learner before the inner folds; the outer fold's test rows are out of reach."""

    learner: Learner
    labels: Int[np.ndarray, " sample"]
    fold: Fold
    seed: int

    def out_of_fold(
        self, option: Option, first: Float[np.ndarray, " asked"] | None = None
    ) -> Float[np.ndarray, " train"]:
        """Score every training row by models of the other inner folds; `first` is known already."""
        oof = np.empty(len(self.fold.train))
        for index in range(INNER_FOLDS):
            known = first if index == 0 else None
            oof[self.fold.inner == index] = self.scores(option, index) if known is None else known
        return oof

    def scores(self, option: Option, index: int) -> Float[np.ndarray, " asked"]:
        """Score the rows of one inner fold."""
        held_out = self.fold.inner == index
        train, test = self.fold.train[~held_out], self.fold.train[held_out]
        return self.learner.fit_predict(option, self.labels, train, test, self.seed)

    def auroc(self, scores: Float[np.ndarray, " asked"], index: int) -> float:
        """Judge the scores of one inner fold; NaN where it holds one label."""
        return plain_auroc(self.labels[self.fold.train[self.fold.inner == index]], scores)


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

    Labels of the fold's test rows are not looked at. An option that was chosen elsewhere is taken
    as it is; with None the inner folds choose.
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


def choose(inner: Inner) -> Tried:
    """Take the option of highest mean AUROC over inner folds, then try its neighbours."""
    best = _best(inner, _race(inner, inner.learner.options(), -np.inf))
    return _best(inner, [best, *_race(inner, inner.learner.refine(best.option), best.first)])


def _best(inner: Inner, tried: list[Tried]) -> Tried:
    """Find the option of highest AUROC that beats those before it by its margin."""
    hallucinated = inner.labels[inner.fold.train]
    rarer = max(min(hallucinated.sum(), (1 - hallucinated).sum()), 1)
    best, *others = tried
    for one in others:
        if one.auroc > best.auroc + one.option.margin / np.sqrt(rarer):
            best = one
    return best


def _race(inner: Inner, options: tuple[Option, ...], to_beat: float) -> list[Tried]:
    """Try options on all inner folds, but those without a margin that fall behind in the first."""
    firsts = [inner.scores(option, 0) for option in options]
    aurocs = [inner.auroc(scores, 0) for scores in firsts]
    lead = max([to_beat, *aurocs])
    tried = []
    for option, scores, auroc in zip(options, firsts, aurocs, strict=True):
        if lead - auroc > HOPELESS and not option.margin:
            continue
        oof = inner.out_of_fold(option, scores)
        parts = [inner.auroc(oof[inner.fold.inner == at], at) for at in range(INNER_FOLDS)]
        tried.append(Tried(option, float(np.nanmean(parts)), auroc, oof))
    return tried
