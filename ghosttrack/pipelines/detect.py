"""Questions in; answers, tracks, an evaluation and its report out."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from ghosttrack.artifacts import Artifact, artifact_id
from ghosttrack.config import DetectProgram
from ghosttrack.data.config import Coverage
from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.asking.families.ghosts import ghost_specs
from ghosttrack.detector.catalogue import SPECS
from ghosttrack.detector.learners.baselines import exposure_table
from ghosttrack.detector.learners.fitted import load
from ghosttrack.evaluation.data import EvaluationData
from ghosttrack.evaluation.detectors import check_names
from ghosttrack.evaluation.evaluate import evaluate
from ghosttrack.evaluation.result import Evaluation
from ghosttrack.evaluation.splits import check_labels
from ghosttrack.pipelines.answers import Answered, Intervened, answer_questions, ask_again
from ghosttrack.pipelines.bank import bank
from ghosttrack.pipelines.checks import Checked, check_answers
from ghosttrack.pipelines.conclude import conclude, protocol, protocol_facts, write_findings
from ghosttrack.pipelines.detectors import Origin, evaluation_name, keep_detectors
from ghosttrack.pipelines.kept_tracks import Tracked
from ghosttrack.pipelines.setup import Study
from ghosttrack.pipelines.tracks import track_answers
from ghosttrack.pipelines.train import bank_metrics
from ghosttrack.questions.config import AnswerSource, FileQuestions, QuestionKind
from ghosttrack.report.material import GENERAL_LIMITS, WRITTEN_LIMITS, Owners, ReportMaterial
from ghosttrack.run import Run
from ghosttrack.training.loggers import check_logger
from ghosttrack.world.coverage import covered_groups

WRITTEN = "written by others, a right and a wrong one to each question; not the model's own"


class Measured(NamedTuple):
    """What the stages before the evaluation left."""

    bank: Artifact
    answered: Answered
    intervened: Intervened
    checked: Checked
    tracked: Tracked
    parts: Mapping[str, Bool[np.ndarray, " sample"]] = MappingProxyType({})
    """Answers that are judged by themselves, too."""


def detect(config: DetectProgram) -> Run:
    """Run the program, and return what it left in its folder."""
    check_logger(config)
    check_names(config.evaluation.compare)
    run = Run.start("detect")
    study = Study(config, run)
    questions = study.questions(config)
    looked_through = bank(study, config)
    answered = answer_questions(study, questions)
    check_labels(answered.answers.labels, answered.answers.groups, config.evaluation.n_folds)
    measured = Measured(
        looked_through,
        answered,
        ask_again(study, config, questions, answered),
        check_answers(study, config, questions, answered),
        track_answers(study, config, looked_through, questions, answered),
        _parts(study, config, answered.answers),
    )
    judged = judge(study, config, measured)
    conclude(run, judged)
    return run


def judge(study: Study, config: DetectProgram, measured: Measured) -> Artifact:
    """Return the evaluation of this configuration with its report, made where it is missing."""
    parts = (measured.answered, measured.intervened, measured.checked, measured.tracked)
    identity = evaluation_identity(config, *(part.artifact.id for part in parts))
    origin = Origin(measured.bank, measured.tracked.artifact, artifact_id(identity))
    kept = keep_detectors(study, config, origin, lambda: evaluation_data(measured))

    def write(folder: Path) -> None:
        with study.run.stage("evaluate"):
            data, judging = evaluation_data(measured), config.evaluation
            evaluation = evaluate(data, judging, judging.seed)
        with study.run.stage("report"):
            material = _material(study, config, evaluation, measured)
            material = material._replace(fitted=load(kept.path)[0])
            write_findings(folder, study.run, config, material, study.lm.decode)

    return study.build("evaluations", evaluation_name(config), identity, write)


def evaluation_identity(
    config: DetectProgram, answers_id: str, again_id: str, checks_id: str, tracks_id: str
) -> dict[str, object]:
    """What determines an evaluation."""
    return {
        "answers": answers_id,
        "interventions": again_id,
        "checks": checks_id,
        "tracks": tracks_id,
        **protocol(config),
    }


def evaluation_data(measured: Measured) -> EvaluationData:
    """Collect what the evaluation looks at."""
    answers, found = measured.answered.answers, measured.intervened.interventions
    tracked = measured.tracked
    exposure = exposure_table(answers.exposures)
    return EvaluationData(
        answers=answers,
        tables={
            "output": answers.output,
            **tracked.tables,
            **found.tables,
            **measured.checked.tables,
            **({"exposure": exposure} if exposure is not None else {}),
        },
        probes=tracked.probes,
        latents=tracked.latents,
        layers=tracked.view.layers,
        forwards={**found.forwards, **measured.checked.forwards, **tracked.forwards},
        directions={spec.name: spec.direction for spec in SPECS},
        families={spec.name: spec.family for spec in SPECS},
        persistence=tracked.persistence,
        causal=tracked.causal,
        parts=measured.parts,
        tokens=tracked.tokens,
        subject_latents=tracked.subject_latents,
    )


def _parts(
    study: Study, config: DetectProgram, answers: Answers
) -> dict[str, Bool[np.ndarray, " sample"]]:
    """Part answers about a world by whether the bank read of their entity, where it did of some."""
    is_world = config.questions.kind is QuestionKind.ghostworld
    if not is_world or config.corpus.coverage is not Coverage.held_out:
        return {}
    groups = covered_groups(study.world)
    saw = np.array([group in groups for group in answers.groups])
    return {"bank saw the entity": saw, "bank never saw it": ~saw}


def _material(
    study: Study, config: DetectProgram, evaluation: Evaluation, measured: Measured
) -> ReportMaterial:
    answers, found = measured.answered.answers, measured.intervened.interventions
    tables = measured.tracked.tables
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
            **measured.checked.tables,
        },
        specs=(*SPECS, *ghost_specs(study.layers)),
        view=measured.tracked.view,
        owners=Owners(found.rivals, found.gaps),
        hooks=bank_metrics(measured.bank)["hooks"],
        facts=_facts(study, config, evaluation, measured.bank),
        seconds=study.run.seconds,
        limits=WRITTEN_LIMITS if answers.are_written else GENERAL_LIMITS,
    )


def _facts(
    study: Study, config: DetectProgram, evaluation: Evaluation, bank: Artifact
) -> dict[str, str]:
    """Say what was run, for the head of the page."""
    detector, asked = config.detector, config.questions
    is_written = isinstance(asked, FileQuestions) and asked.answers is AnswerSource.written
    return {
        "model": f"{config.model.name}, {study.lm.n_layers} layers, d_model {study.lm.d_model}",
        "SAE bank": f"{bank.path.name}, {len(study.layers)} hook points",
        "questions": f"{asked.name}, {evaluation.n} over {evaluation.n_groups} groups",
        **({"answers": WRITTEN} if is_written else {}),
        "tracker": f"{detector.name}: top_k {detector.top_k}, gate {detector.gate}, "
        f"{detector.association.name}, statistics at {detector.position.name}",
        **protocol_facts(config),
    }
