"""`ghosttrack ask`: the model answers prompts, and a fitted detector judges what it said."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from ghosttrack.artifacts import Artifact
from ghosttrack.detect_config import DetectProgram
from ghosttrack.detector.judgement import Judgement
from ghosttrack.files import write_json
from ghosttrack.questions.sets import Question
from ghosttrack.report.live import (
    Shown,
    print_details,
    print_verdict,
    to_json,
    write_live_page,
    write_table,
)
from ghosttrack.run import Run
from ghosttrack.scoring.detector import Detector, find_detector

TERMINAL_WIDTH = 110
"""Columns of what is printed where the terminal does not say how many it has."""

log = logging.getLogger(__name__)


def answer_and_judge(
    config: DetectProgram,
    questions: Sequence[Question],
    kept: Path | None = None,
    prevalence: float | None = None,
    *,
    is_file: bool,
) -> None:
    """Judge the answers to prompts; fit the detector of these settings if there is none.

    Args:
        config: Settings of detect.py.
        questions: The prompts.
        kept: Folder of the detector; None: that of the settings.
        prevalence: Share of hallucinated answers that risks are said for; None: that of the
            settings.
        is_file: A line is said of each, not all that is known of one.
    """
    run, artifact = find_detector(config, kept)
    with run.stage("load detector"):
        assumed = config.evaluation.prevalence if prevalence is None else prevalence
        detector = Detector.load(artifact.path, config.model.device, assumed)
    console = Console(width=None if Console().is_terminal else TERMINAL_WIDTH)
    with run.stage("judge"):
        shown = detector.judge(questions, partial(_tell, console, is_file=is_file))
    page = _write(run, detector.facts.model.name, artifact, shown)
    run.metrics["ask"] = {"prompts": len(questions), "seconds": run.seconds["judge"]}
    run.finish()
    if not is_file:
        print_details(shown.judgements[0], console)
    log.info(
        "%d judged in %.2f s, %.0f ms each; page: %s",
        *(len(questions), run.seconds["judge"]),
        *(1000 * run.seconds["judge"] / len(questions), page),
    )


def _tell(console: Console, judgements: Sequence[Judgement], *, is_file: bool) -> None:
    for judgement in judgements:
        print_verdict(judgement, console, brief=is_file)


def _write(run: Run, model: str, artifact: Artifact, shown: Shown) -> Path:
    """Leave page, table and JSON in the run's folder; return the page."""
    run.folder.mkdir(parents=True, exist_ok=True)
    page = run.folder / "answers.html"
    write_live_page(page, shown, {"model": model, "detector": artifact.path.name})
    write_json(run.folder / "answers.json", to_json(shown.judgements))
    write_table(run.folder / "answers.csv", shown.judgements)
    return page
