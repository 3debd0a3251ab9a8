"""Questions in; answers, tracks, an evaluation and its report out."""

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from ghosttrack import __version__
from ghosttrack.artifacts import Artifact, git_commit, read_json, write_json
from ghosttrack.config import DetectProgram
from ghosttrack.detector.baselines import exposure_table
from ghosttrack.detector.families import OWNER_SPECS, PARAPHRASE_SPECS
from ghosttrack.detector.outputs import OUTPUT_SCORES
from ghosttrack.detector.statistics import LENS_STATISTICS, TRACK_STATISTICS
from ghosttrack.evaluation.data import EvaluationData
from ghosttrack.evaluation.evaluate import evaluate
from ghosttrack.evaluation.result import Evaluation
from ghosttrack.evaluation.splits import check_labels
from ghosttrack.pipelines.answering import Answered, Intervened, answer_questions, ask_again
from ghosttrack.pipelines.logs import check_logger, close_logger, make_logger
from ghosttrack.pipelines.run import Run
from ghosttrack.pipelines.study import Study
from ghosttrack.pipelines.tracking import Tracked, track_answers
from ghosttrack.pipelines.train import bank, bank_identity, bank_metrics, bank_name
from ghosttrack.report.figures import draw
from ghosttrack.report.material import HEADLINE, Owners, ReportMaterial
from ghosttrack.report.page import write_page
from ghosttrack.report.tables import category_counts, print_headline, write_rows, write_scores
from ghosttrack.report.wandb import log_evaluation

SPECS = (
    *(score.spec for score in OUTPUT_SCORES),
    *LENS_STATISTICS,
    *TRACK_STATISTICS,
    *PARAPHRASE_SPECS,
    *OWNER_SPECS,
)
"""Every statistic that a report may name."""

TABLE_WIDTH = 110
"""Columns that the closing table needs; a narrower terminal wraps it, a log does not cut it."""

log = logging.getLogger(__name__)


class Measured(NamedTuple):
    """What the stages before the evaluation left."""

    bank: Artifact
    answered: Answered
    intervened: Intervened
    tracked: Tracked


def detect(config: DetectProgram) -> None:
    """Run the program."""
    check_logger(config)
    run = Run.start("detect")
    study = Study(config, run)
    questions = study.questions(config.questions)
    study.upstream("saes", bank_name(config), bank_identity(study, config), "train")
    trained = bank(study, config)
    answered = answer_questions(study, questions)
    check_labels(answered.answers.labels, answered.answers.groups, config.detector.n_folds)
    measured = Measured(
        trained,
        answered,
        ask_again(study, config, questions, answered),
        track_answers(study, config, trained, answered),
    )
    judged = judge(study, config, measured)
    found = read_json(judged.path / "evaluation.json")
    run.metrics["detect"] = {
        "evaluation": str(judged.path),
        **read_json(judged.path / "metrics.json"),
    }
    run.finish()
    print_headline(found["rows"], Console(width=max(Console().width, TABLE_WIDTH)))
    log.info("%s", found["claim"])
    log.info("report: %s", judged.path / "report.html")


def judge(study: Study, config: DetectProgram, measured: Measured) -> Artifact:
    """Return the evaluation of this configuration with its report, made where it is missing."""
    parts = (measured.answered, measured.intervened, measured.tracked)
    identity = evaluation_identity(config, *(part.artifact.id for part in parts))

    def write(folder: Path) -> None:
        with study.run.stage("evaluate"):
            evaluation = evaluate(evaluation_data(measured), config.detector, config.seed)
        with study.run.stage("report"):
            _write(folder, study, config, _material(study, config, evaluation, measured))

    return study.build("evaluations", evaluation_name(config), identity, write)


def evaluation_name(config: DetectProgram) -> str:
    """Name an evaluation for people."""
    return f"{config.questions.name}-{config.detector.name}"


def evaluation_identity(
    config: DetectProgram, answers_id: str, again_id: str, tracks_id: str
) -> dict[str, object]:
    """What determines an evaluation."""
    return {
        "answers": answers_id,
        "interventions": again_id,
        "tracks": tracks_id,
        "n_folds": config.detector.n_folds,
        "n_bootstrap": config.detector.n_bootstrap,
        "seed": config.seed,
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
            **({"interventions": found.table} if found.table.names else {}),
            **({"exposure": exposure} if exposure is not None else {}),
        },
        probes=tracked.probes,
        latents=tracked.latents,
        layers=tracked.view.layers,
        forwards={"interventions": sum(found.forwards.values()), **_masked_passes(measured)},
        directions={spec.name: spec.direction for spec in TRACK_STATISTICS},
        persistence=tracked.persistence,
    )


def _masked_passes(measured: Measured) -> dict[str, float]:
    """Count the second pass, with the subject masked, that statistics of tracks read."""
    share = float(np.mean([bool(subject) for subject in measured.answered.answers.subjects]))
    names = (name for name in measured.tracked.tables if name.startswith(("tracks", "null:")))
    return dict.fromkeys(names, share)


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
            "interventions": found.table,
        },
        specs=SPECS,
        view=measured.tracked.view,
        owners=Owners(found.rivals, found.gaps),
        hooks=bank_metrics(measured.bank)["hooks"],
        facts=_facts(study, config, evaluation, measured.bank),
        seconds=study.run.seconds,
    )


def _facts(
    study: Study, config: DetectProgram, evaluation: Evaluation, bank: Artifact
) -> dict[str, str]:
    """Say what was run, for the head of the page."""
    detector, commit = config.detector, git_commit()[:12] or "no commit"
    return {
        "model": f"{config.model.name}, {study.lm.n_layers} layers, d_model {study.lm.d_model}",
        "SAE bank": f"{bank.path.name}, {len(study.layers)} hook points",
        "questions": f"{config.questions.name}, {evaluation.n} over {evaluation.n_groups} groups",
        "tracker": f"{detector.name}: top_k {detector.top_k}, gate {detector.gate}, "
        f"{detector.association.name}",
        "protocol": f"{detector.n_folds} grouped folds, {detector.n_bootstrap} resamples, "
        f"seed {config.seed}",
        "code": f"ghosttrack {__version__} at {commit}",
    }


def _write(folder: Path, study: Study, config: DetectProgram, material: ReportMaterial) -> None:
    """Write the evaluation's files: JSON first, then figures, tables and the page."""
    evaluation, answers = material.evaluation, material.answers
    write_json(folder / "evaluation.json", evaluation.to_json())
    (folder / "figures").mkdir(exist_ok=True)
    (folder / "tables").mkdir(exist_ok=True)
    figures = draw(folder / "figures", evaluation, answers.labels)
    write_rows(folder / "tables" / "detectors.csv", evaluation.rows)
    texts = list(zip(answers.prompts, answers.texts, answers.categories, strict=True))
    write_scores(folder / "tables" / "scores.csv", evaluation, texts)
    write_page(folder / "report.html", material, figures, study.lm.decode)
    write_json(folder / "metrics.json", _metrics(material))
    logger = make_logger(config, study.run, "detect", folder)
    log_evaluation(logger, evaluation, HEADLINE, figures)
    close_logger(logger)


def _metrics(material: ReportMaterial) -> dict[str, object]:
    """Collect the numbers of an evaluation that are not in `evaluation.json`."""
    answers = material.answers
    return {
        "tiers": {
            name: {"n": n, "accuracy": accuracy}
            for name, n, accuracy in category_counts(answers.tiers, answers.labels)
        },
        "categories": {
            name: n for name, n, _ in category_counts(answers.categories, answers.labels)
        },
        "confident_errors": int(((answers.prob > 0.8) & (answers.labels == 1)).sum()),
        "hooks": list(material.hooks),
    }
