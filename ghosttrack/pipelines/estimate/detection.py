"""Detection from the questions to the report, rehearsed on a few of the questions."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from joblib import Parallel, delayed, effective_n_jobs

from ghosttrack.config import DetectProgram
from ghosttrack.detector.table import Table
from ghosttrack.errors import DataError
from ghosttrack.evaluation.bootstrap import resample
from ghosttrack.evaluation.crossfit import CrossFit
from ghosttrack.evaluation.data import EvaluationData
from ghosttrack.evaluation.evaluate import evaluate
from ghosttrack.evaluation.rows import Entry, Subset, summarise
from ghosttrack.evaluation.subsets import ALL, CONFIDENT
from ghosttrack.evaluation.whole import fit_whole
from ghosttrack.files import read_json
from ghosttrack.pipelines.checks import TITLE as CHECKS
from ghosttrack.pipelines.detect import Detection
from ghosttrack.pipelines.detectors import KEPT
from ghosttrack.pipelines.estimate.costs import Cost, Measured, Probe, extrapolate, measure, timed
from ghosttrack.pipelines.estimate.text import Probes
from ghosttrack.pipelines.evaluation import Sources, evaluation_data
from ghosttrack.pipelines.stage import Stage
from ghosttrack.sae.bank import Bank

FIRST = 8
"""Questions of a rehearsal that only warms up."""
FEW, MANY = 64, 256
"""Questions of the two from which the whole is extrapolated; fewer where the model is slow."""
ANSWER_S = 30.0
"""Seconds that answering and asking again may take in either."""
FOLDS = 2
"""Outer folds of a rehearsal: fits take as long as their number and their training rows ask for."""
RESAMPLES = 20
"""Of a rehearsal's bootstrap, which is measured apart and at its real size."""
JUDGED = 1000
"""Answers that are judged a second time, those of a rehearsal over and over."""


class Rehearsed(NamedTuple):
    """What one rehearsal took."""

    n: int
    """Questions."""
    stages: dict[str, Measured]
    n_bytes: dict[str, int]
    """Of each stage's artefact."""
    sources: Sources


class Judged(NamedTuple):
    """What evaluations in `FOLDS` folds took, and a report."""

    evaluated: list[tuple[int, Measured]]
    """By number of answers."""
    fitted: list[tuple[int, float]]
    """Seconds until the detectors that are kept were fitted, by number of answers."""
    report: Measured
    n_bytes: int
    n_detectors: int


class Bootstrap(NamedTuple):
    """What the intervals of all answers take."""

    start: float
    """Seconds until worker processes are there."""
    each: float
    """Seconds per detector."""


class Rehearsals:
    """The stages of detection on some questions.

    Args:
        probes: Give the model and text.
        config: Of the real run.
        bank: What the answers are read through.
    """

    def __init__(self, probes: Probes, config: DetectProgram, bank: Stage[Bank]) -> None:
        self.probes, self.config, self.bank = probes, config, bank
        self.n = len(probes.setup.questions(config).questions)

    @cached_property
    def both(self) -> list[Rehearsed]:
        """Two rehearsals, or one where there are few questions."""
        self._bootstrap  # noqa: B018 (starts the workers)
        first = self._rehearse(min(FIRST, self.n))
        few = self._rehearse(min(self.n, _affordable(first, FEW)))
        many = min(self.n, _affordable(few, MANY))
        return [few, self._rehearse(many)] if many > few.n else [few]

    def _rehearse(self, n: int) -> Rehearsed:
        probe = Probe(self.probes.folder / f"run-{n}", "detect")
        stages = self._stages(n, probe)
        parts = {
            "answer": stages.answers,
            "ask again": stages.again,
            CHECKS: stages.checks,
            "track": stages.tracks,
        }
        n_bytes = {name: part.artifact.n_bytes for name, part in parts.items()}
        return Rehearsed(n, probe.stages, n_bytes, stages.sources)

    def _stages(self, n: int, probe: Probe) -> Detection:
        setup = self.probes.smaller(self._settings(n), probe)
        setup.corpus = self.probes.corpus
        stages = Detection(setup)
        stages.bank = self.bank
        return stages

    def _settings(self, n: int) -> DetectProgram:
        config = self.config
        offline = {"offline": True} if "offline" in config.logger else {}
        return replace(
            config,
            questions=replace(config.questions, num=n),
            evaluation=replace(config.evaluation, n_folds=FOLDS, n_bootstrap=RESAMPLES),
            logger={**config.logger, **offline},
        )

    def stage(self, name: str) -> Cost:
        """Say what a stage takes whose work grows with the questions."""
        took = [one.stages[name] for one in self.both]
        sizes = " and ".join(str(one.n) for one in self.both)
        return Cost(
            name,
            f"{sizes} of {self.n:,} questions",
            self._whole([one.seconds for one in took]),
            round(self._whole([one.host_bytes for one in took])),
            round(self._whole([one.gpu_bytes for one in took])),
            round(self._whole([one.n_bytes[name] for one in self.both])),
        )

    def evaluate(self) -> Cost:
        """Say what the evaluation and its report take, and the detectors that are kept.

        A fold's fits are extrapolated along their training rows; the bootstrap is added.
        """
        try:
            judged = self._judge()
        except DataError as error:
            return Cost("evaluate, report", f"not measured: {error}", math.nan)
        judging = self.config.evaluation
        n_trained = self.n * (judging.n_folds - 1) // judging.n_folds
        fits = [(n // FOLDS, took.seconds / FOLDS) for n, took in judged.evaluated]
        seconds = judging.n_folds * extrapolate(fits, n_trained) + judged.report.seconds
        seconds += extrapolate(judged.fitted, self.n)
        seconds += self._bootstrap.start + self._bootstrap.each * judged.n_detectors
        sizes = " and ".join(f"{n:,}" for n, _ in judged.evaluated)
        return Cost(
            "evaluate, report",
            f"{sizes} answers in {FOLDS} folds, the bootstrap of all {self.n:,}",
            seconds,
            max(one.host_bytes for one in (judged.report, judged.evaluated[-1][1])),
            disk_bytes=judged.n_bytes,
        )

    def _judge(self) -> Judged:
        last, probe = self.both[-1], Probe(self.probes.folder / "run-judged", "detect")
        stages = self._stages(last.n, probe)
        stages.sources, config = last.sources._replace(setup=stages.setup), stages.setup.config
        artifact = stages.evaluation.artifact
        evaluated = [(last.n, probe.stages["evaluate"])]
        fitted = [(last.n, probe.stages["fit"].seconds)]
        if self.n > last.n:
            data = repeated(evaluation_data(last.sources), min(self.n, JUDGED))
            with measure() as took:
                evaluate(data, config.evaluation, config.evaluation.seed)
            evaluated.append((len(data.answers), took))
            with timed() as fit:
                fit_whole(data, KEPT, config.evaluation.seed)
            fitted.append((len(data.answers), fit.seconds))
        rows = read_json(artifact.path / "evaluation.json")["rows"]
        names = {row["detector"] for row in rows}
        return Judged(evaluated, fitted, probe.stages["report"], artifact.n_bytes, len(names))

    @cached_property
    def _bootstrap(self) -> Bootstrap:
        questions = self.probes.setup.questions(self.config).questions
        judging = self.config.evaluation
        draw = np.random.default_rng(judging.seed)
        prob, labels = draw.random(self.n), draw.integers(2, size=self.n)
        groups = [question.group for question in questions]
        resamples = resample(groups, judging.n_bootstrap, judging.seed)
        entry = Entry("probe", 1.0, CrossFit(prob, prob > 0.5, ()))
        chosen = [Subset(ALL, np.ones(self.n, dtype=bool))]
        chosen += [Subset(name, prob > least) for name, least in CONFIDENT.items()]
        task = delayed(summarise)(entry, labels, tuple(chosen), resamples)
        tasks = [task] * effective_n_jobs(-1)
        with Parallel(n_jobs=-1) as parallel:
            with timed() as cold:
                parallel(tasks)
            with timed() as warm:
                parallel(tasks)
        return Bootstrap(max(cold.seconds - warm.seconds, 0.0), warm.seconds / len(tasks))

    def _whole(self, values: Sequence[float]) -> float:
        sizes = [one.n for one in self.both]
        return extrapolate(list(zip(sizes, values, strict=True)), self.n)


def repeated(data: EvaluationData, n: int) -> EvaluationData:
    """Take the answers over and over until there are `n`; each copy is a question of its own."""
    rows = np.arange(n) % len(data.answers)
    copies = np.arange(n) // len(data.answers)
    answers = data.answers.take(rows)

    def own(texts: Sequence[str]) -> tuple[str, ...]:
        return tuple(f"{text} {copy}" for text, copy in zip(texts, copies, strict=True))

    return data._replace(
        answers=replace(answers, groups=own(answers.groups), prompts=own(answers.prompts)),
        tables={name: table.take(rows) for name, table in data.tables.items()},
        probes=data.probes[:, rows],
        latents=[table[rows] for table in data.latents],
        subject_latents=[table[rows] for table in data.subject_latents],
        tokens=_tokens(data, rows),
        persistence={
            measure: {name: values[rows] for name, values in kinds.items()}
            for measure, kinds in data.persistence.items()
        },
    )


def _tokens(data: EvaluationData, rows: Int[np.ndarray, " row"]) -> Table | None:
    """Take the tokens of these answers."""
    if data.tokens is None:
        return None
    of = data.token_answer
    return data.tokens.take(np.concatenate([np.flatnonzero(of == row) for row in rows]))


def _affordable(before: Rehearsed, most: int) -> int:
    """Say how many questions a rehearsal may have, after one with fewer."""
    seconds = before.stages["answer"].seconds + before.stages["ask again"].seconds
    return min(most, max(2 * before.n, int(before.n * ANSWER_S / seconds)))
