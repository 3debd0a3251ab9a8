"""Choose among a learner's options in the inner folds of one outer fold."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

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
        """Score every training row by models of the other inner folds.

        Args:
            option: What to learn with.
            first: The first inner fold's scores, where they are known already.
        """
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


def choose(inner: Inner) -> Tried:
    """Take the option of highest mean AUROC over inner folds, then try its neighbours."""
    best = _best(_race(inner, inner.learner.options(), -np.inf))
    return _best([best, *_race(inner, inner.learner.refine(best.option), best.first)])


def _race(inner: Inner, options: tuple[Option, ...], to_beat: float) -> list[Tried]:
    """Try options on all inner folds, but those that fall behind in the first."""
    firsts = [inner.scores(option, 0) for option in options]
    aurocs = [inner.auroc(scores, 0) for scores in firsts]
    lead = max([to_beat, *aurocs])
    tried = []
    for option, scores, auroc in zip(options, firsts, aurocs, strict=True):
        if lead - auroc > HOPELESS:
            continue
        oof = inner.out_of_fold(option, scores)
        parts = [inner.auroc(oof[inner.fold.inner == at], at) for at in range(INNER_FOLDS)]
        tried.append(Tried(option, float(np.nanmean(parts)), auroc, oof))
    return tried


def _best(tried: list[Tried]) -> Tried:
    return max(tried, key=lambda one: one.auroc)
