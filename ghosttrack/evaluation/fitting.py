"""Fit many detectors in many folds side by side."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, cast

import numpy as np
from jaxtyping import Int
from joblib import Parallel, delayed

from ghosttrack.detector.learners.classifiers import Learner, Option
from ghosttrack.evaluation.crossfit import CrossFit, FoldFit, assemble, fit_fold, stacked_column
from ghosttrack.evaluation.data import EvaluationData
from ghosttrack.evaluation.inputs import prepare
from ghosttrack.evaluation.roster import DetectorSpec
from ghosttrack.evaluation.splits import Fold


class Job(NamedTuple):
    """One detector in one outer fold, as a worker gets it."""

    name: str
    fold: Fold
    learner: Learner
    labels: Int[np.ndarray, " sample"]
    option: Option | None = None


class Fits:
    """Fold fits by detector, the columns that they did not get, and what had to be left out."""

    def __init__(self, data: EvaluationData, folds: tuple[Fold, ...]) -> None:
        self.data = data
        self.folds = folds
        self.left_out: dict[str, str] = {}
        self.fits: dict[str, list[FoldFit]] = {}
        self.dropped: dict[str, tuple[str, ...]] = {}

    def jobs(self, specs: Iterable[DetectorSpec]) -> list[Job]:
        """Prepare the learners of these detectors for every fold.

        A null gets the classifier that the inner folds chose for `tracks`, a stack the inner
        out-of-fold scores of its parts: both must have run.
        """
        jobs = []
        for spec in sorted(specs, key=_haste):
            mine = self._jobs(spec)
            if mine:
                jobs += mine
            else:
                self.left_out[spec.name] = "no column is left: all are constant or undefined"
        return jobs

    def run(self, parallel: Parallel, jobs: list[Job], seed: int) -> None:
        """Fit in workers; every number depends on the seed and not on how many there are."""
        tasks = (delayed(fit_fold)(j.learner, j.labels, j.fold, seed, j.option) for j in jobs)
        for job, fit in zip(jobs, cast("list[FoldFit]", parallel(tasks)), strict=True):
            self.fits.setdefault(job.name, []).append(fit)

    def cross_fit(self, name: str) -> CrossFit:
        """Put one detector's folds together."""
        return assemble(self.fits[name], self.folds, len(self.data.answers))

    def _jobs(self, spec: DetectorSpec) -> list[Job]:
        jobs, dropped = [], Counter[str]()
        for fold in self.folds:
            n = len(self.data.answers)
            scores = {
                name: stacked_column(self.fits[name][fold.number], fold, n) for name in spec.stacked
            }
            prepared = prepare(spec, self.data, fold.train, scores)
            if prepared is None:
                return []
            option = self.fits[spec.option_of][fold.number].option if spec.option_of else None
            jobs.append(Job(spec.name, fold, prepared.learner, self.data.answers.labels, option))
            dropped.update(prepared.dropped)
        self.dropped[spec.name] = tuple(
            f"{column} ({count} of {len(self.folds)} folds)" for column, count in dropped.items()
        )
        return jobs


def _haste(spec: DetectorSpec) -> tuple[bool, int]:
    """Sort slow learners first, lest one be left to the end of the queue."""
    return not spec.needs, -len(spec.reads)
