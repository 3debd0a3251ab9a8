"""Judge all that was measured of the answers, and report it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from ghosttrack.artifacts import Artifact
from ghosttrack.config import DetectProgram
from ghosttrack.data.config import Coverage, WorldText
from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.asking.families.ghosts import ghost_specs
from ghosttrack.detector.asking.interventions import Interventions
from ghosttrack.detector.catalogue import SPECS
from ghosttrack.detector.learners.baselines import exposure_table
from ghosttrack.detector.learners.fitted import FittedDetector, load
from ghosttrack.evaluation.data import EvaluationData
from ghosttrack.evaluation.evaluate import evaluate
from ghosttrack.evaluation.result import Evaluation
from ghosttrack.pipelines.answers import SelfChecks
from ghosttrack.pipelines.conclude import (
    SCHEMA,
    protocol,
    protocol_facts,
    read_evaluation,
    write_findings,
)
from ghosttrack.pipelines.setup import Setup
from ghosttrack.pipelines.stage import Stage
from ghosttrack.pipelines.track_files import AnswerTracks
from ghosttrack.pipelines.train import bank_metrics
from ghosttrack.questions.config import AnswerSource, FileQuestions, QuestionKind
from ghosttrack.questions.sets import QuestionSet
from ghosttrack.report.material import GENERAL_LIMITS, WRITTEN_LIMITS, Owners, ReportMaterial
from ghosttrack.sae.bank import Bank
from ghosttrack.world.text import covered_groups

WRITTEN = "written by others, a right and a wrong one to each question; not the model's own"


class Sources(NamedTuple):
    """The stages that an evaluation is made from."""

    setup: Setup[DetectProgram]
    questions: QuestionSet
    bank: Stage[Bank]
    answers: Stage[Answers]
    again: Stage[Interventions]
    checks: Stage[SelfChecks]
    tracks: Stage[AnswerTracks]

    @property
    def parts(self) -> dict[str, Bool[np.ndarray, " sample"]]:
        """Answers judged by themselves, too: by whether the bank read of their entity."""
        config = self.setup.config
        is_world, corpus = config.questions.kind is QuestionKind.ghostworld, config.corpus
        is_part = isinstance(corpus, WorldText) and corpus.coverage is Coverage.held_out
        if not (is_world and is_part):
            return {}
        groups = covered_groups(self.setup.world)
        saw = np.array([group in groups for group in self.answers.get().groups])
        return {"bank saw the entity": saw, "bank never saw it": ~saw}


def evaluation_stage(
    sources: Sources, detectors: Callable[[], Stage[Any]]
) -> Stage[dict[str, Any]]:
    """The evaluation of this configuration with its report.

    Args:
        sources: What it is made from.
        detectors: Gives the stage of the fitted detectors, whose weights the report shows.
    """
    setup = sources.setup
    settings = {
        "answers": sources.answers.id,
        "interventions": sources.again.id,
        "checks": sources.checks.id,
        "tracks": sources.tracks.id,
        **protocol(setup.config),
        "schema": SCHEMA,
    }
    name = f"{setup.config.questions.name}-{setup.config.detector.name}"
    write = partial(write_evaluation, sources, detectors)
    return Stage(setup.outputs, "evaluations", name, settings, write, read_evaluation)


def write_evaluation(sources: Sources, detectors: Callable[[], Stage[Any]], folder: Path) -> None:
    """Judge every detector, and write tables, figures and the page."""
    setup = sources.setup
    config, fitted = setup.config, detectors().make().path
    with setup.run.stage("evaluate"):
        judging = config.evaluation
        evaluation = evaluate(evaluation_data(sources), judging, judging.seed)
    with setup.run.stage("report"):
        material = _material(setup, sources, evaluation, load(fitted)[0])
        write_findings(folder, setup.run, config, material, setup.lm.decode)


def evaluation_data(sources: Sources) -> EvaluationData:
    """Collect what the evaluation looks at."""
    answers, found, tracked = sources.answers.get(), sources.again.get(), sources.tracks.get()
    checks = sources.checks.get()
    exposure = exposure_table(answers.exposures)
    return EvaluationData(
        answers=answers,
        tables={
            "output": answers.output,
            **tracked.tables,
            **found.tables,
            **checks.tables,
            **({"exposure": exposure} if exposure is not None else {}),
        },
        probes=tracked.probes,
        latents=tracked.latents,
        layers=tracked.view.layers,
        forwards={**found.forwards, **checks.forwards, **tracked.forwards},
        directions={spec.name: spec.direction for spec in SPECS},
        families={spec.name: spec.family for spec in SPECS},
        persistence=tracked.persistence,
        causal=tracked.causal,
        parts=sources.parts,
        tokens=tracked.tokens,
        subject_latents=tracked.subject_latents,
    )


def _material(
    setup: Setup[DetectProgram], sources: Sources, evaluation: Evaluation, fitted: FittedDetector
) -> ReportMaterial:
    answers, found, tracked = sources.answers.get(), sources.again.get(), sources.tracks.get()
    checks, tables, bank = sources.checks.get(), tracked.tables, sources.bank.make()
    return ReportMaterial(
        evaluation=evaluation,
        answers=answers,
        statistics={
            "output": answers.output,
            "lens": tables["lens"],
            "tracks": tables["tracks"],
            **({"subject": tables["subject"]} if "subject" in tables else {}),
            **found.tables,
            **({"ghosts": tables["ghosts"]} if "ghosts" in tables else {}),
            **checks.tables,
        },
        specs=(*SPECS, *ghost_specs(setup.layers)),
        view=tracked.view,
        owners=Owners(found.rivals, found.gaps),
        hooks=bank_metrics(bank)["hooks"],
        facts=_facts(setup, evaluation, bank),
        seconds=setup.run.seconds,
        fitted=fitted,
        limits=WRITTEN_LIMITS if answers.are_written else GENERAL_LIMITS,
    )


def _facts(setup: Setup[DetectProgram], evaluation: Evaluation, bank: Artifact) -> dict[str, str]:
    """Say what was run, for the head of the page."""
    config, detector, asked = setup.config, setup.config.detector, setup.config.questions
    is_written = isinstance(asked, FileQuestions) and asked.answers is AnswerSource.written
    return {
        "model": f"{config.model.name}, {setup.lm.n_layers} layers, d_model {setup.lm.d_model}",
        "SAE bank": f"{bank.path.name}, {len(setup.layers)} hook points",
        "questions": f"{asked.name}, {evaluation.n} over {evaluation.n_groups} groups",
        **({"answers": WRITTEN} if is_written else {}),
        "tracker": f"{detector.name}: top_k {detector.top_k}, gate {detector.gate}, "
        f"{detector.association.name}, statistics at {detector.position.name}",
        **protocol_facts(config),
    }
