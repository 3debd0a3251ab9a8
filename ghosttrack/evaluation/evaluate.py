"""The honest protocol, whole: folds, detectors, canaries, intervals, differences, claim."""

from itertools import chain
from typing import cast

import numpy as np
from jaxtyping import Int
from joblib import Parallel, delayed

from ghosttrack.detector.learners.classifiers import effective_rank
from ghosttrack.errors import DataError
from ghosttrack.evaluation.bootstrap import Resamples, resample
from ghosttrack.evaluation.canaries import Canaries, canaries
from ghosttrack.evaluation.claim import claim
from ghosttrack.evaluation.config import EvaluationConfig
from ghosttrack.evaluation.data import EvaluationData
from ghosttrack.evaluation.detectors import NULL, Plan, pairs, plan
from ghosttrack.evaluation.fitting import Fits, Job
from ghosttrack.evaluation.persistence import causal_rates, persistence
from ghosttrack.evaluation.result import Evaluation, Pair
from ghosttrack.evaluation.rows import (
    Entry,
    Subset,
    Summary,
    Sung,
    difference,
    listen,
    summarise,
)
from ghosttrack.evaluation.splits import nested_folds, outer_folds
from ghosttrack.evaluation.subsets import subsets

CANARY = "canary:"


def evaluate(
    data: EvaluationData, config: EvaluationConfig, seed: int, *, n_jobs: int = -1
) -> Evaluation:
    """Judge every detector that the data can feed, under one protocol.

    Nothing is chosen on rows that it is reported on: outer folds keep groups whole, classifier,
    layer, strength, calibration and threshold are chosen in inner folds of the training rows.

    Args:
        data: Answers and what was measured on them.
        config: Which are judged, and on what rows; its seed is not read.
        seed: The same seed gives the same numbers, whatever `n_jobs`.
        n_jobs: Worker processes; -1 takes every core this process may use.

    Raises:
        DataError: One label only, too few groups or kinds of question to hold out, or a question
            that stands under two groups.
    """
    answers = data.answers
    if not data.tables:
        raise DataError("evaluation: nothing was measured on the answers")
    folds = outer_folds(answers, config, seed)
    nested = nested_folds(folds, answers.labels, answers.groups, seed)
    resamples = resample(answers.groups, config.n_bootstrap, seed)
    planned, birds = plan(data, config.compare), canaries(data, nested, seed)
    if not planned.specs:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in planned.left_out.items())
        raise DataError(f"evaluation.compare: nothing is left to judge; {reasons}")
    chosen = subsets(answers, data.parts)
    fits = Fits(data, nested)
    with Parallel(n_jobs=n_jobs) as parallel:
        _fit_all(fits, planned, birds, parallel, seed)
        table = _summarise(fits, planned, chosen.present, resamples, parallel)
        sung = _listen(fits, birds, folds, resamples, parallel)
    paired = _differences(table, written=answers.are_written)
    names = tuple(table)
    return Evaluation(
        n=len(answers),
        n_groups=resamples.n_groups,
        hallucinated_frac=float(answers.labels.mean()),
        rows=tuple(summary.row for summaries in table.values() for summary in summaries),
        paired=paired,
        canaries={name: one.auroc for name, one in sung.items()},
        canary_intervals={name: one.ci for name, one in sung.items()},
        tracking=tuple(
            row
            for measure, values in data.persistence.items()
            for row in persistence(measure, values, resamples)
        ),
        causal=causal_rates(data.causal, data.layers, config.n_bootstrap, seed),
        scores={name: fits.cross_fit(name).prob for name in names},
        flagged={name: fits.cross_fit(name).flagged for name in names},
        folds=folds,
        chosen={name: fits.cross_fit(name).chosen for name in names},
        dropped={name: columns for name, columns in fits.dropped.items() if columns},
        effective_rank={name: effective_rank(table) for name, table in data.tables.items()},
        left_out=planned.left_out | birds.left_out | fits.left_out | chosen.left_out,
        claim=claim(paired),
    )


def _listen(
    fits: Fits,
    birds: Canaries,
    folds: Int[np.ndarray, " sample"],
    resamples: Resamples,
    parallel: Parallel,
) -> dict[str, Sung]:
    """Judge every canary on pairs of answers of one fold.

    A fold that holds more right answers leaves fewer of them to its training rows, which alone
    would put the AUROC of all pairs below 0.5. Where relations differ, pairs are of one as well.
    """
    strata = folds
    if fits.data.uneven_relations:
        _, relation = np.unique(fits.data.answers.relations, return_inverse=True)
        strata = relation * (folds.max() + 1) + folds
    probs = [fits.cross_fit(CANARY + bird.name).prob for bird in birds.present]
    tasks = (
        delayed(listen)(bird.labels, prob, strata, resamples)
        for bird, prob in zip(birds.present, probs, strict=True)
    )
    sung = cast("list[Sung]", parallel(tasks))
    return {bird.name: one for bird, one in zip(birds.present, sung, strict=True)}


def _fit_all(fits: Fits, planned: Plan, birds: Canaries, parallel: Parallel, seed: int) -> None:
    """Fit what stands alone, then what builds on it."""

    def builds(spec_name: str, stacked: tuple[str, ...]) -> bool:
        return bool(stacked) or spec_name.startswith(NULL)

    alone = [spec for spec in planned.specs if not builds(spec.name, spec.stacked)]
    jobs = fits.jobs(alone)
    for bird in birds.present:
        jobs += [Job(CANARY + bird.name, fold, bird.learner, bird.labels) for fold in fits.folds]
    fits.run(parallel, jobs, seed)
    later = [spec for spec in planned.specs if builds(spec.name, spec.stacked)]
    fits.run(parallel, fits.jobs(later), seed)


def _summarise(
    fits: Fits,
    planned: Plan,
    chosen: tuple[Subset, ...],
    resamples: Resamples,
    parallel: Parallel,
) -> dict[str, list[Summary]]:
    """Score every fitted detector on every subset."""
    labels = fits.data.answers.labels
    entries = [
        Entry(spec.name, spec.forwards, fits.cross_fit(spec.name))
        for spec in planned.specs
        if spec.name in fits.fits
    ]
    tasks = (delayed(summarise)(entry, labels, chosen, resamples) for entry in entries)
    summaries = cast("list[list[Summary]]", parallel(tasks))
    return {entry.detector: one for entry, one in zip(entries, summaries, strict=True)}


def _differences(table: dict[str, list[Summary]], *, written: bool) -> tuple[Pair, ...]:
    return tuple(
        chain.from_iterable(
            (difference(one, other) for one, other in zip(table[a], table[b], strict=True))
            for a, b in pairs(tuple(table), written=written)
        )
    )
