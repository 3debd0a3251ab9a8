"""An evaluation as a stage, and the last words of a run that has one."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from ghosttrack.artifacts import Artifact
from ghosttrack.detect_config import DetectProgram
from ghosttrack.errors import LeakError
from ghosttrack.evaluation.config import HeldOut, Singing
from ghosttrack.files import read_json
from ghosttrack.pipelines.stage import Deferred, Outputs, Stage
from ghosttrack.report.tables import account, print_headline, with_interval
from ghosttrack.run import Run

TABLE_WIDTH = 100
"""Columns of the closing table at most; a narrower terminal folds names, a log cuts nothing."""

SCHEMA = 3
"""Version of the files of an evaluation."""

log = logging.getLogger(__name__)


def judged_stage(
    outputs: Outputs, config: DetectProgram, judged: Mapping[str, object], write: Deferred
) -> Stage[dict[str, Any]]:
    """The evaluation of what is judged, with its report."""
    settings = {**judged, **_protocol(config), "schema": SCHEMA}
    name, load = config.questions.name, Deferred("ghosttrack.pipelines.conclude", "read_evaluation")
    if not config.questions.kind.is_ready:
        name = f"{name}-{config.detector.name}"
    return Stage(outputs, "evaluations", name, settings, write, load)


def _protocol(config: DetectProgram) -> dict[str, object]:
    """Give the settings that determine an evaluation beside what it judges."""
    judging = config.evaluation
    is_usual = judging.held_out is HeldOut.group
    return {
        "n_folds": judging.n_folds,
        "n_bootstrap": judging.n_bootstrap,
        "seed": judging.seed,
        **({} if is_usual else {"held_out": judging.held_out.name}),
        **({} if judging.prevalence is None else {"prevalence": judging.prevalence}),
        **({} if judging.compare is None else {"compare": sorted(judging.compare)}),
    }


def conclude(run: Run, judged: Artifact, singing: Singing) -> None:
    """Keep the numbers with the run, print the closing table and say where the report lies.

    Raises:
        LeakError: A canary sings, and that is to be a fault.
    """
    found = read_json(judged.path / "evaluation.json")
    run.metrics["detect"] = {
        "evaluation": str(judged.path),
        **read_json(judged.path / "metrics.json"),
    }
    run.finish()
    log.info("%s", account(found["n"], found["n_judged"], found["categories"]))
    print_headline(found["rows"], _console())
    if found["tracking"]:
        log.info("%s", found["claim"])
    for said in run.metrics["detect"].get("cautions", ()):
        log.warning("%s", said)
    for name, signal in found["signals"].items():
        log.info("%s is no leak: %s", _canary(name, found), signal)
    if best := run.metrics["detect"]["best"]:
        log.info("the best here of %s", best)
    for said in run.metrics["detect"].get("choices", ()):
        log.info("%s", said)
    log.info("report: %s", judged.path / "report.html")
    leaks = [f"{_canary(name, found)} sings: {song}" for name, song in found["singing"].items()]
    if leaks and singing is Singing.fail:
        raise LeakError(f"{'; '.join(leaks)}; evaluation.canaries=report makes this no fault")
    for said in leaks:
        log.warning("%s", said)


def _console() -> Console:
    """Write no wider than people read, and no narrower in a file than they do."""
    usual = Console()
    return Console(width=min(usual.width, TABLE_WIDTH) if usual.is_terminal else TABLE_WIDTH)


def _canary(name: str, found: Mapping[str, Any]) -> str:
    """Name a canary with its AUROC and interval."""
    auroc = with_interval(found["canaries"][name], found["canaries_ci"][name])
    return f"canary {name}, AUROC {auroc},"


def read_evaluation(folder: Path) -> dict[str, Any]:
    """Read an evaluation's numbers."""
    return read_json(folder / "evaluation.json")
