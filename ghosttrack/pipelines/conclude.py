"""An evaluation's files, and the last words of a run that has one."""

import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from ghosttrack import __version__
from ghosttrack.artifacts import Artifact, git_commit
from ghosttrack.config import DetectProgram
from ghosttrack.errors import LeakError
from ghosttrack.evaluation.config import HeldOut, Singing
from ghosttrack.files import read_json, write_json
from ghosttrack.report.detection_log import log_evaluation
from ghosttrack.report.figures import draw
from ghosttrack.report.material import Kept, ReportMaterial
from ghosttrack.report.page import write_page
from ghosttrack.report.tables import (
    account,
    category_counts,
    print_headline,
    with_interval,
    write_rows,
    write_scores,
)
from ghosttrack.run import Run, plain
from ghosttrack.training.loggers import close_loggers, make_loggers

HELD_OUT = {
    HeldOut.group: "that keep a question or an entity together",
    HeldOut.wording: "of wordings, each judged by who learned from other wordings and entities",
    HeldOut.relation: "of relations, each judged by who learned from other relations and entities",
}
TABLE_WIDTH = 100
"""Columns of the closing table at most; a narrower terminal folds names, a log cuts nothing."""

SCHEMA = 3
"""Version of the files of an evaluation."""

log = logging.getLogger(__name__)


def protocol(config: DetectProgram) -> dict[str, object]:
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


def protocol_facts(config: DetectProgram) -> dict[str, str]:
    """Say how it was judged, for the head of the page."""
    judging, commit = config.evaluation, git_commit()[:12] or "no commit"
    return {
        "protocol": f"{judging.n_folds} folds {HELD_OUT[judging.held_out]}, "
        f"{judging.n_bootstrap} resamples of what is held out together, seed {judging.seed}",
        "code": f"ghosttrack {__version__} at {commit}",
    }


def write_findings(
    folder: Path,
    run: Run,
    config: DetectProgram,
    material: ReportMaterial,
    decode: Callable[[Sequence[int]], str],
) -> None:
    """Write the evaluation's files: JSON first, then figures, tables and the page."""
    evaluation, answers = material.evaluation, material.answers
    material = material._replace(
        command=_command(run),
        settings=yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True),
        kept={
            f"{one.path.parent.name}/{one.path.name}": Kept(one.manifest["seconds"], one.n_bytes)
            for one in run.kept
        },
    )
    write_json(folder / "evaluation.json", evaluation.to_json())
    (folder / "figures").mkdir(exist_ok=True)
    (folder / "tables").mkdir(exist_ok=True)
    figures = draw(folder / "figures", evaluation, answers.labels)
    write_rows(folder / "tables" / "detectors.csv", evaluation.rows)
    texts = zip(answers.asked, answers.texts, answers.categories, answers.groups, strict=True)
    write_scores(folder / "tables" / "scores.csv", evaluation, list(texts))
    write_page(folder / "report.html", material, figures, decode)
    write_json(folder / "metrics.json", _metrics(material))
    loggers = make_loggers(config, run, "detect", folder)
    log_evaluation(loggers, material, figures)
    close_loggers(loggers, config, run, folder)


def _command(run: Run) -> str:
    """Give the command line of this run, as Hydra noted it."""
    noted = run.folder / ".hydra" / "overrides.yaml"
    overrides = yaml.safe_load(noted.read_text(encoding="utf-8")) if noted.is_file() else ()
    return shlex.join(["python", "detect.py", *overrides])


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
    for row, name in found["recommended"].items():
        log.info("%s: %s, by the inner folds", row, name)
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


def _metrics(material: ReportMaterial) -> dict[str, object]:
    """Collect the numbers of an evaluation that are not in `evaluation.json`."""
    answers = material.answers
    return {
        "tiers": {
            name: {"n": n, "accuracy": accuracy}
            for name, n, accuracy in category_counts(answers.tiers, answers.labels)
        },
        "categories": dict(material.evaluation.categories),
        "confident_errors": int(((answers.prob > 0.8) & (answers.labels == 1)).sum()),
        "hooks": list(material.hooks),
        "cautions": list(material.cautions),
    }
