"""Fit many detectors: fold by fold for the evaluation, on all answers for use on new ones."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
from jaxtyping import Float, Int
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from ghosttrack.data.progress import Meter
from ghosttrack.detector.answers.teacher_forced import surface_table
from ghosttrack.detector.learners.baselines import Latents, LinearProbe
from ghosttrack.detector.learners.calibration import calibrate, threshold
from ghosttrack.detector.learners.classifiers import (
    Columns,
    Known,
    LabelFree,
    Learner,
    Option,
    TokenClassifier,
    screen,
)
from ghosttrack.detector.learners.fitted import (
    SCORES,
    FittedDetector,
    Linear,
    Scorer,
    fit_scorer,
    quantiles,
    signed,
    uncut,
    with_parts,
)
from ghosttrack.detector.learners.ridge import RidgeProbe, quartiles
from ghosttrack.detector.table import Table
from ghosttrack.evaluation.crossfit import (
    CrossFit,
    FoldFit,
    Inner,
    assemble,
    choose,
    fit_fold,
    stacked_column,
)
from ghosttrack.evaluation.data import EvaluationData, available
from ghosttrack.evaluation.scores import plain_auroc
from ghosttrack.evaluation.spec import DetectorSpec, Inputs
from ghosttrack.evaluation.splits import INNER_FOLDS, Fold, grouped_folds

Kept = Columns | LabelFree | LinearProbe | RidgeProbe | Latents
"""Learners whose parameters can be kept."""
PROMPT_LAST = "prompt_last"
"""Where a probe looks that is not of a place of its own."""
TIE = 0.002
"""AUROC that is not worth more passes."""


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
        self.recommended: dict[str, str] = {}

    def jobs(self, specs: Iterable[DetectorSpec]) -> Iterator[Job]:
        """Prepare the learners of these detectors for every fold, a detector at a time.

        A null gets the classifier that the inner folds chose for `tracks`, a stack the inner
        out-of-fold scores of its parts: both must have run.
        """
        # slow learners first, lest one be left to the end of the queue
        for spec in sorted(specs, key=lambda spec: (not spec.needs, -len(spec.reads))):
            mine = self._jobs(spec)
            if not mine:
                self.left_out[spec.name] = "no column is left: all are constant or undefined"
            yield from mine

    def run(self, parallel: Parallel, jobs: Iterable[Job], seed: int) -> None:
        """Fit in workers, none prepared long before its turn.

        Every number depends on the seed and not on how many there are.
        """
        names: list[str] = []

        def tasks() -> Iterator[Any]:
            for job in jobs:
                names.append(job.name)
                yield delayed(fit_fold)(job.learner, job.labels, job.fold, seed, job.option)

        for name, fit in zip(names, cast("list[FoldFit]", parallel(tasks())), strict=True):
            self.fits.setdefault(name, []).append(fit)

    def anew(self, labels: Int[np.ndarray, " sample"]) -> "Fits":
        """Begin again with other labels."""
        return Fits(
            self.data._replace(answers=replace(self.data.answers, labels=labels)), self.folds
        )

    def settled(self, job: Job) -> Job:
        """Let a job take the classifier that this detector has chosen in its fold."""
        return job._replace(option=self.fits[job.name][job.fold.number].option)

    def recommend(self, chooser: DetectorSpec, specs: Iterable[DetectorSpec]) -> None:
        """Let the inner folds of every outer fold choose one of those that were fitted."""
        name, most = chooser.name, chooser.within
        competing = [
            spec.name
            for spec in sorted(specs, key=lambda spec: spec.forwards)
            if spec.competes and spec.name in self.fits and spec.forwards <= most
        ]
        if not competing:
            self.left_out[name] = f"no detector of at most {most:g} passes was judged"
            return
        ranks = np.array([[self._rank(one, fold) for one in competing] for fold in self.folds])
        best = [competing[at] for at in map(first_of_best, ranks)]
        self.fits[name] = [
            self.fits[one][fold.number]._replace(option=Option(one))
            for one, fold in zip(best, self.folds, strict=True)
        ]
        self.recommended[name] = competing[first_of_best(ranks.mean(axis=0))]

    def _rank(self, name: str, fold: Fold) -> float:
        """Mean AUROC of a detector over the inner folds that hold both labels."""
        labels, oof = self.data.answers.labels[fold.train], self.fits[name][fold.number].oof
        inner = (fold.inner == at for at in range(INNER_FOLDS))
        return float(np.nanmean([plain_auroc(labels[mine], oof[mine]) for mine in inner]))

    def cross_fit(self, name: str) -> CrossFit:
        """Put one detector's folds together."""
        return assemble(self.fits[name], self.folds, len(self.data.answers))

    def _jobs(self, spec: DetectorSpec) -> list[Job]:
        if any(part not in self.fits for part in spec.stacked):
            return []
        jobs, dropped, made = [], Counter[str](), dict[tuple[str, ...], Learner | None]()
        for fold in self.folds:
            n = len(self.data.answers)
            scores = {
                name: stacked_column(self.fits[name][fold.number], fold, n) for name in spec.stacked
            }
            prepared = prepare(spec, self.data, fold.train, scores, None if scores else made)
            if prepared is None:
                return []
            option = self.fits[spec.option_of][fold.number].option if spec.option_of else None
            jobs.append(Job(spec.name, fold, prepared.learner, self.data.answers.labels, option))
            dropped.update(prepared.dropped)
        self.dropped[spec.name] = tuple(
            f"{column} ({count} of {len(self.folds)} folds)" for column, count in dropped.items()
        )
        return jobs


def in_turn(specs: Iterable[DetectorSpec]) -> Iterator[list[DetectorSpec]]:
    """Yield detectors at once that build on none but those before."""
    waiting = list(specs)
    while waiting:
        names = {one.name for one in waiting}
        now = [one for one in waiting if names.isdisjoint((*one.stacked, one.option_of))]
        yield now
        waiting = [one for one in waiting if one not in now]


def first_of_best(aurocs: Float[np.ndarray, " detector"]) -> int:
    """Find the first detector that no other beats by more than `TIE`.

    >>> first_of_best(np.array([0.7, 0.8, 0.801]))
    1
    """
    return int(np.flatnonzero(aurocs >= aurocs.max() - TIE)[0])


def fit_whole(
    data: EvaluationData, names: Sequence[str], seed: int, *, n_jobs: int = -1
) -> tuple["Whole", ...]:
    """Fit detectors of columns on every answer.

    Grouped folds choose classifier, calibration and threshold, as an evaluation's inner folds do
    within its outer ones; what they choose is then fitted once more on all. What judges tokens is
    chosen and calibrated on every token, be it an answer's first or last.

    Those that compete come in the order in which inner folds rank them, then the others of `names`,
    then what they are fused from; those that the data cannot feed are left out. The same seed gives
    the same detectors, whatever `n_jobs`; -1 takes every core this process may use.
    """
    answers = data.answers
    inner = grouped_folds(answers.labels, answers.groups, answers.prompts, INNER_FOLDS, seed)
    rows = np.arange(len(answers))
    fold = Fold(0, rows, rows[:0], inner)
    wanted = [one for one in available(data, names).present if not one.within]
    cheap, done = sorted(wanted, key=lambda one: one.forwards), dict[str, Whole]()
    meter = Meter("fitting for new prompts", len(wanted), unit="detectors")
    with Parallel(n_jobs=n_jobs) as parallel, meter:
        for now in in_turn(wanted):
            tasks = [_task(one, data, fold, done, seed) for one in now]
            found = cast("list[Whole]", parallel(one for one in meter.over(tasks) if one))
            done |= {one.fitted.name: one for one in found}
    left, best = [one.name for one in cheap if one.competes and one.name in {*done} & {*names}], []
    while left:
        best.append(left.pop(first_of_best(np.array([done[name].auroc for name in left]))))
    fitted = {name: one.fitted for name, one in done.items()}
    parts = {part.name for one in names if one in done for part in with_parts(fitted[one], fitted)}
    order = dict.fromkeys((*best, *names, *sorted(parts)))
    return tuple(done[name] for name in order if name in done)


class Whole(NamedTuple):
    """A detector fitted on every answer, and what the inner folds said of it."""

    fitted: FittedDetector
    oof: Float[np.ndarray, " row"]
    """Raw scores, each from models of the other inner folds."""
    auroc: float


def _task(
    spec: DetectorSpec, data: EvaluationData, fold: Fold, done: Mapping[str, Whole], seed: int
) -> Any:  # noqa: ANN401 - joblib's
    """Prepare the fit of a detector; None where it cannot be kept."""
    if any(part not in done for part in spec.stacked):
        return None
    prepared = prepare(spec, data, fold.train, {part: done[part].oof for part in spec.stacked})
    if prepared is None:
        return None
    learner, labels = prepared.learner, data.answers.labels
    if isinstance(learner, TokenClassifier):
        learner, labels, fold = _by_token(learner, labels, fold)
    if not isinstance(learner, Kept):
        return None
    return delayed(_fit)(spec, prepared.names, learner, labels, fold, seed)


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
    spec: DetectorSpec,
    columns: tuple[str, ...],
    learner: Kept,
    labels: Int[np.ndarray, " sample"],
    fold: Fold,
    seed: int,
) -> Whole:
    with threadpool_limits(1):
        tried = choose(Inner(learner, labels, fold, seed))
        calibration = calibrate(tried.oof, labels, fold.inner)
        scorer, columns, values = _keep(columns, learner, tried.option, labels, seed)
        fitted = FittedDetector(
            name=spec.name,
            columns=columns,
            scorer=scorer,
            option=tried.option.label,
            calibration=calibration,
            threshold=threshold(calibration.prob(tried.oof), labels),
            prevalence=float(labels.mean()),
            has_holes=np.logical_or.reduce(np.isnan(values), axis=0),
            quantiles=quantiles(values, labels),
        )
        return Whole(fitted, tried.oof, tried.auroc)


def _keep(
    columns: tuple[str, ...],
    learner: Kept,
    option: Option,
    labels: Int[np.ndarray, " sample"],
    seed: int,
) -> tuple[Scorer, tuple[str, ...], Float[np.ndarray, "row column"]]:
    """Fit what was chosen on all rows; give names and values of the columns that it reads."""
    if isinstance(learner, Columns):
        return fit_scorer(option, learner.values, labels, seed), columns, learner.values
    if isinstance(learner, LabelFree):
        return signed(learner.values, learner.directions), columns, learner.values
    if isinstance(learner, RidgeProbe):
        values = learner.values()
        scorer = Linear(*quartiles(values), *map(np.asarray, learner.weigh(option, labels)))
        return scorer, learner.names(), values
    layer = learner.layers[option.place]
    if isinstance(learner, Latents):
        weights, intercept = learner.weigh(option, labels, np.arange(len(labels)), seed)
        used = np.flatnonzero(weights)
        values = learner.acts[option.place][:, used].toarray().astype(np.float64)
        return uncut(weights[used], intercept), _places("latents", layer, used), values
    values = learner.residuals[option.place].astype(np.float64)
    scorer = fit_scorer(option, values, labels, seed)
    return scorer, _places(f"states:{PROMPT_LAST}", layer, range(values.shape[1])), values


def _places(where: str, layer: int, numbers: Iterable[int]) -> tuple[str, ...]:
    return tuple(f"{where}{'/' if ':' in where else ':'}{layer}/{number}" for number in numbers)


class Prepared(NamedTuple):
    """A learner for one fold, with the columns that it does not get."""

    learner: Learner
    dropped: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """Of the columns that it gets, `<table>:<column>` each."""


def prepare(
    spec: DetectorSpec,
    data: EvaluationData,
    train: Known,
    scores: Mapping[str, Float[np.ndarray, " sample"]],
    made: dict[tuple[str, ...], Learner | None] | None = None,
) -> Prepared | None:
    """Make a detector's learner for one outer fold; None where no column is left to learn from.

    Columns are judged on the training rows; `scores` are the fold's columns of stacked detectors.
    `made` holds the learners of other folds by their columns: the same ones are not held twice.
    """
    by_token = "tokens" in spec.reads
    rows = np.flatnonzero(np.isin(data.token_answer, train)) if by_token else train
    table = _joined(spec, data, scores)
    kept, dropped = screen(table, rows)
    if table.names and not kept:
        return None
    names = tuple(table.names[at] for at in kept)
    made = {} if made is None else made
    if names not in made:
        values = np.where(np.isfinite(held := table.values[:, kept]), held, np.nan)
        directions = np.array([data.directions.get(name, 0) for name in names], dtype=np.int64)
        values = np.ascontiguousarray(values, np.float64)
        made[names] = spec.learner(Inputs(names, values, directions, data))
    learner = made[names]
    if learner is None:
        return None
    return Prepared(learner, dropped, tuple(_full_name(spec, name, data) for name in names))


def _joined(
    spec: DetectorSpec, data: EvaluationData, scores: Mapping[str, Float[np.ndarray, " sample"]]
) -> Table:
    """Set a detector's tables and stacked scores side by side."""
    seen = {name: _table(name, data) for name in spec.reads}
    seen |= {name: seen[name].select(columns) for name, columns in spec.reads.items() if columns}
    if len(seen) == 1 and not spec.stacked:
        return next(iter(seen.values()))
    parts = [
        Table(tuple(f"{name}:{column}" for column in table.names), table.values)
        for name, table in seen.items()
    ]
    if spec.stacked:
        columns = np.stack([scores[name] for name in spec.stacked], axis=1)
        parts.append(Table(spec.stacked, columns))
    nothing = Table((), np.empty((len(data.answers), 0)))
    return parts[0].concat(*parts[1:]) if parts else nothing


def _table(name: str, data: EvaluationData) -> Table:
    if name == "surface":
        return surface_table(data.answers)
    if name == "tokens":
        assert data.tokens is not None, "no tokens to learn from"
        return data.tokens
    return data.tables[name]


def _full_name(spec: DetectorSpec, column: str, data: EvaluationData) -> str:
    """Say which table a column is of, where its name does not."""
    if column in spec.stacked:
        return f"{SCORES}:{column}"
    if "tokens" in spec.reads:
        return f"{'output' if column in data.answers.output.names else 'tracks'}:{column}"
    return column if ":" in column or not spec.reads else f"{next(iter(spec.reads))}:{column}"
