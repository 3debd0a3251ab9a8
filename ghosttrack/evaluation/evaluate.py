"""The honest protocol, whole: fit every detector out of fold, then judge what it said."""

from collections import Counter
from dataclasses import replace
from itertools import chain
from typing import NamedTuple, cast

import numpy as np
from jaxtyping import Int
from joblib import Parallel, delayed

from ghosttrack.data.progress import Meter
from ghosttrack.detector.learners.classifiers import effective_rank
from ghosttrack.errors import DataError
from ghosttrack.evaluation.bootstrap import Resamples, resample
from ghosttrack.evaluation.canaries import (
    CANARY,
    SIGNALS,
    Canary,
    CanaryDesign,
    CanaryVerdict,
    canaries,
    crossed,
    judge,
    kind,
    through_detectors,
)
from ghosttrack.evaluation.claim import causal_rates, claim, persistence
from ghosttrack.evaluation.config import EvaluationConfig
from ghosttrack.evaluation.data import EvaluationData, available
from ghosttrack.evaluation.expectations import expectations
from ghosttrack.evaluation.fitting import Fits, in_turn
from ghosttrack.evaluation.result import (
    ALL,
    SHUFFLE,
    WITHIN,
    CausalRate,
    Evaluation,
    Expectation,
    Pair,
    PartGain,
)
from ghosttrack.evaluation.roster import BASE, COMPETING, NULL, PARTS, leads, pairs
from ghosttrack.evaluation.spec import DetectorSpec
from ghosttrack.evaluation.splits import Fold, nested_folds
from ghosttrack.evaluation.subsets import drawn_together, outer_folds, subsets
from ghosttrack.evaluation.summary import (
    PREVALENCES,
    Entry,
    Subset,
    Summary,
    difference,
    reliability,
    summarise,
)


class Design(NamedTuple):
    """Who takes part, and on which answers."""

    specs: tuple[DetectorSpec, ...]
    canaries: tuple[Canary, ...]
    folds: Int[np.ndarray, " sample"]
    left_out: dict[str, str]
    """Detectors, canaries and subsets, with the reason."""
    nested: tuple[Fold, ...]
    subsets: tuple[Subset, ...]
    resamples: Resamples


def evaluate(data: EvaluationData, config: EvaluationConfig, *, n_jobs: int = -1) -> Evaluation:
    """Judge every detector that the data can feed, under one protocol.

    Nothing is chosen on rows that it is reported on: outer folds keep groups whole, classifier,
    layer, strength, calibration and threshold are chosen in inner folds of the training rows.

    The same seed gives the same numbers, whatever `n_jobs`; -1 takes every core this process may
    use.

    Raises:
        DataError: One label only, too few groups or kinds of question to hold out, or a question
            that stands under two groups.
    """
    design, seed = _design(data, config), config.seed
    with Parallel(n_jobs=n_jobs) as parallel:
        fits = _fit(data, design, parallel, seed)
        summaries = _summarise(fits, design, parallel)
        found = _verdicts(fits, design, parallel, seed)
        expected = _expectations(data, design, parallel)
    causal = causal_rates(data.causal, data.layers, config.n_bootstrap, seed)
    competing = {name: fits.cross_fit(name).prob for name in COMPETING if name in summaries}
    wanted = {*PREVALENCES, *(() if config.prevalence is None else (config.prevalence,))}
    return replace(
        _evaluation(fits, design, summaries, found, causal),
        expectations=expected,
        reliability=reliability(competing, data.answers.labels, wanted),
    )


def _design(data: EvaluationData, config: EvaluationConfig) -> Design:
    answers, seed = data.answers, config.seed
    if not data.tables:
        raise DataError("evaluation: nothing was measured on the answers")
    folds = outer_folds(answers, config)
    nested = nested_folds(folds, answers.labels, answers.groups, seed)
    feasible = available(data, config.compare)
    if not feasible.present:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in feasible.left_out.items())
        raise DataError(f"evaluation.compare: nothing is left to judge; {reasons}")
    checks, chosen = canaries(data, nested, seed), subsets(answers, data.parts)
    return Design(
        specs=feasible.present,
        canaries=checks.present,
        left_out=feasible.left_out | checks.left_out | chosen.left_out,
        folds=folds,
        nested=nested,
        subsets=chosen.present,
        resamples=resample(drawn_together(answers, config.held_out), config.n_bootstrap, seed),
    )


def _fit(data: EvaluationData, design: Design, parallel: Parallel, seed: int) -> Fits:
    """Fit what stands alone, then what builds on it, and choose among all last."""
    fits = Fits(data, design.nested)
    jobs = [job for one in design.canaries for job in one.jobs(fits.folds)]
    alone = [spec for spec in design.specs if not spec.within]
    n_fits = len(alone) * len(fits.folds) + len(jobs)
    with Meter("judging detectors", n_fits, unit="fits") as meter:
        for now in in_turn(alone):
            fits.run(parallel, meter.over(chain(fits.jobs(now), jobs)), seed)
            jobs = []
    for one in (spec for spec in design.specs if spec.within):
        fits.recommend(one, design.specs)
    return fits


def _evaluation(
    fits: Fits,
    design: Design,
    summaries: dict[str, list[Summary]],
    found: dict[str, CanaryVerdict],
    causal: tuple[CausalRate, ...],
) -> Evaluation:
    answers, data = fits.data.answers, fits.data
    said = answers if data.said is None else data.said
    eyes = zip(said.categories, said.other_categories, strict=True)
    paired = _differences(summaries, design.specs, written=answers.are_written)
    fitted = {name: fits.cross_fit(name) for name in summaries}
    return Evaluation(
        n=len(said),
        n_judged=len(answers),
        n_ambiguous=int(answers.is_ambiguous.sum()),
        categories=Counter(said.categories),
        disagreements=Counter(f"{one}, else {other}" for one, other in eyes if one != other),
        n_groups=len(set(answers.groups)),
        hallucinated_frac=float(answers.labels.mean()),
        rows=tuple(one.row for one in chain.from_iterable(summaries.values())),
        paired=paired,
        canaries={name: one.auroc for name, one in found.items()},
        canaries_ci={name: one.ci for name, one in found.items()},
        singing={name: kind(name).song for name, one in found.items() if one.sings},
        signals={name: SIGNALS[name] for name, one in found.items() if one.is_signal},
        tracking=tuple(
            row
            for measure, values in data.persistence.items()
            for row in persistence(measure, values, design.resamples)
        ),
        causal=causal,
        scores={name: one.prob for name, one in fitted.items()},
        flagged={name: one.flagged for name, one in fitted.items()},
        folds=design.folds,
        chosen={name: one.chosen for name, one in fitted.items()},
        dropped={name: columns for name, columns in fits.dropped.items() if columns},
        effective_rank={name: effective_rank(table) for name, table in data.tables.items()},
        left_out=design.left_out | fits.left_out,
        claim=claim(paired),
        parts=_parts(summaries),
        recommended=fits.recommended,
    )


def _summarise(fits: Fits, design: Design, parallel: Parallel) -> dict[str, list[Summary]]:
    """Score every fitted detector on every subset."""
    labels = fits.data.answers.labels
    passes = {spec.name: spec.forwards for spec in design.specs}
    for name in fits.recommended:
        passes[name] = float(np.mean([passes[fit.option.label] for fit in fits.fits[name]]))
    entries = [
        Entry(name, taken, fits.cross_fit(name))
        for name, taken in passes.items()
        if name in fits.fits
    ]
    known = labels, design.subsets, design.resamples
    with Meter("resampling", len(entries), unit="detectors") as meter:
        tasks = (delayed(summarise)(one, *known) for one in meter.over(entries))
        summaries = cast("list[list[Summary]]", parallel(tasks))
    return {entry.detector: one for entry, one in zip(entries, summaries, strict=True)}


def _expectations(
    data: EvaluationData, design: Design, parallel: Parallel
) -> tuple[Expectation, ...]:
    """Hold statistics against what was expected, but not those that must mean nothing."""
    real = {
        name: table
        for name, table in data.tables.items()
        if not name.startswith((NULL, "untrained"))
    }
    labels, draws = data.answers.labels, design.resamples
    return expectations(real, data.directions, labels, draws, parallel)


def _verdicts(
    fits: Fits, design: Design, parallel: Parallel, seed: int
) -> dict[str, CanaryVerdict]:
    """Judge every canary on pairs of answers of one fold.

    A fold that holds more right answers leaves fewer of them to its training rows, which alone
    would put the AUROC of all pairs below 0.5. Where relations differ, pairs are of one as well.
    """
    judged = [(one, fits.cross_fit(CANARY + one.name).prob) for one in design.canaries]
    if shuffle := next((one for one in design.canaries if one.name == SHUFFLE), None):
        leader = leads(fits.recommended, fits.fits)
        judged += through_detectors(fits, design.specs, shuffle, leader, parallel, seed)
    strata, is_real = design.folds, fits.data.is_real
    if is_real:
        _, relation = np.unique(fits.data.answers.relations, return_inverse=True)
        strata = crossed(strata, relation)
    pairs_of = CanaryDesign(strata, design.resamples, len(judged), is_real)
    tasks = (delayed(judge)(canary, prob, pairs_of) for canary, prob in judged)
    found = cast("list[CanaryVerdict]", parallel(tasks))
    return {one.name: result for (one, _), result in zip(judged, found, strict=True)}


def _differences(
    summaries: dict[str, list[Summary]], specs: tuple[DetectorSpec, ...], *, written: bool
) -> tuple[Pair, ...]:
    """Compare detectors; real links are held against all nulls that there are at once."""
    there = [spec for spec in specs if spec.name in summaries]
    n_nulls = sum(spec.name.startswith(NULL) for spec in there)
    return tuple(
        difference(one, other, n_nulls if b.startswith(NULL) else 1)
        for a, b in pairs(there, written=written)
        for one, other in zip(summaries[a], summaries[b], strict=True)
    )


def _parts(summaries: dict[str, list[Summary]]) -> tuple[PartGain, ...]:
    """Compare each part that was measured, fused late with the base, with the base alone."""
    found = [
        (part, difference(one, other))
        for part, name in PARTS.items()
        if name in summaries
        for one, other in zip(summaries[name], summaries[BASE], strict=True)
    ]
    return tuple(
        PartGain(part, pair.b, pair.delta, pair.ci, pair.subset)
        for part, pair in found
        if pair.subset in (ALL, WITHIN)
    )
