"""Detectors for use on new answers: fitted on all, by the procedure that is judged fold by fold."""

from collections.abc import Sequence
from typing import cast

import numpy as np
from jaxtyping import Int
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from ghosttrack.detector.learners.calibration import calibrate, threshold
from ghosttrack.detector.learners.classifiers import Columns
from ghosttrack.detector.learners.fitted import FittedDetector, quantiles
from ghosttrack.detector.learners.scorers import fit_scorer
from ghosttrack.detector.learners.token_risk import TokenClassifier
from ghosttrack.evaluation.available import available
from ghosttrack.evaluation.data import EvaluationData
from ghosttrack.evaluation.inputs import prepare
from ghosttrack.evaluation.selection import Inner, choose
from ghosttrack.evaluation.splits import INNER_FOLDS, Fold, grouped_folds


def fit_whole(
    data: EvaluationData, names: Sequence[str], seed: int, *, n_jobs: int = -1
) -> tuple[FittedDetector, ...]:
    """Fit detectors of columns on every answer.

    Grouped folds choose classifier, calibration and threshold, as an evaluation's inner folds do
    within its outer ones; what they choose is then fitted once more on all. What judges tokens is
    chosen and calibrated on every token, be it an answer's first or last.

    Args:
        data: As the evaluation gets it.
        names: Detectors in the order of the result; those that the data cannot feed are left out.
        seed: The same seed gives the same detectors, whatever `n_jobs`.
        n_jobs: Worker processes; -1 takes every core this process may use.
    """
    answers = data.answers
    inner = grouped_folds(answers.labels, answers.groups, answers.prompts, INNER_FOLDS, seed)
    rows = np.arange(len(answers))
    fold = Fold(0, rows, rows[:0], inner)
    specs = {spec.name: spec for spec in available(data, names).specs if not spec.stacked}
    tasks = []
    for spec in (specs[name] for name in names if name in specs):
        prepared = prepare(spec, data, rows, {})
        if prepared is None:
            continue
        learner, labels, judged = prepared.learner, answers.labels, fold
        if isinstance(learner, TokenClassifier):
            learner, labels, judged = _by_token(learner, labels, fold)
        if isinstance(learner, Columns):
            tasks.append(delayed(_fit)(spec.name, prepared.names, learner, labels, judged, seed))
    return tuple(cast("list[FittedDetector]", Parallel(n_jobs=n_jobs)(tasks)))


def _by_token(
    learner: TokenClassifier, labels: Int[np.ndarray, " sample"], fold: Fold
) -> tuple[Columns, Int[np.ndarray, " token"], Fold]:
    """Let every token stand for its answer, in its fold."""
    rows = np.arange(len(learner.answer))
    return (
        learner.columns,
        labels[learner.answer],
        Fold(0, rows, rows[:0], fold.inner[learner.answer]),
    )


def _fit(
    name: str,
    columns: tuple[str, ...],
    learner: Columns,
    labels: Int[np.ndarray, " sample"],
    fold: Fold,
    seed: int,
) -> FittedDetector:
    with threadpool_limits(1):
        tried = choose(Inner(learner, labels, fold, seed))
        calibration = calibrate(tried.oof, labels, fold.inner)
        return FittedDetector(
            name=name,
            columns=columns,
            scorer=fit_scorer(tried.option, learner.values, labels, seed),
            option=tried.option.label,
            calibration=calibration,
            threshold=threshold(calibration.prob(tried.oof), labels),
            prevalence=float(labels.mean()),
            has_holes=np.logical_or.reduce(np.isnan(learner.values), axis=0),
            quantiles=quantiles(learner.values, labels),
        )
