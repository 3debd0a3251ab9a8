"""The files of an evaluation."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from ghosttrack import __version__
from ghosttrack.artifacts import git_commit
from ghosttrack.detect_config import DetectProgram
from ghosttrack.evaluation.config import HeldOut
from ghosttrack.files import write_json
from ghosttrack.processes import machine
from ghosttrack.report.contents import Kept, ReportContents
from ghosttrack.report.detection_log import log_evaluation
from ghosttrack.report.figures import draw
from ghosttrack.report.first import choices, of_one_pass
from ghosttrack.report.page import write_page
from ghosttrack.report.tables import category_counts, write_rows, write_scores
from ghosttrack.run import Run, plain
from ghosttrack.training.loggers import close_loggers, make_loggers

HELD_OUT = {
    HeldOut.group: "that keep a question or an entity together",
    HeldOut.wording: "of wordings, each judged by who learned from other wordings and entities",
    HeldOut.relation: "of relations, each judged by who learned from other relations and entities",
}


def protocol_facts(config: DetectProgram) -> dict[str, str]:
    """Say how it was judged, where and by what code, for the head of the page."""
    judging, commit = config.evaluation, git_commit()[:12] or "no commit"
    return {
        "protocol": f"{judging.n_folds} folds {HELD_OUT[judging.held_out]}, "
        f"{judging.n_bootstrap} resamples of what is held out together, seed {judging.seed}",
        "machine": machine(),
        "code": f"ghosttrack {__version__} at {commit}",
    }


def write_findings(
    folder: Path,
    run: Run,
    config: DetectProgram,
    contents: ReportContents,
    decode: Callable[[Sequence[int]], str],
) -> None:
    """Write the evaluation's files: JSON first, then figures, tables and the page."""
    evaluation, answers = contents.evaluation, contents.answers
    contents = contents._replace(
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
    figures = draw(folder / "figures", evaluation, answers.labels, contents.hooks)
    write_rows(folder / "tables" / "detectors.csv", evaluation.rows)
    texts = zip(answers.asked, answers.texts, answers.categories, answers.groups, strict=True)
    write_scores(folder / "tables" / "scores.csv", evaluation, list(texts))
    write_page(folder / "report.html", contents, figures, decode)
    write_json(folder / "metrics.json", _metrics(contents))
    loggers = make_loggers(config, run, "detect", folder)
    log_evaluation(loggers, contents, figures)
    close_loggers(loggers, config, run, folder)


def _command(run: Run) -> str:
    """Give the command line of this run, as Hydra noted it."""
    noted = run.folder / ".hydra" / "overrides.yaml"
    overrides = yaml.safe_load(noted.read_text(encoding="utf-8")) if noted.is_file() else ()
    return shlex.join(["python", "detect.py", *overrides])


def _metrics(contents: ReportContents) -> dict[str, object]:
    """Collect the numbers of an evaluation that are not in `evaluation.json`."""
    answers = contents.answers
    return {
        "tiers": {
            name: {"n": n, "accuracy": accuracy}
            for name, n, accuracy in category_counts(answers.tiers, answers.labels)
        },
        "categories": dict(contents.evaluation.categories),
        "confident_errors": int(((answers.prob > 0.8) & (answers.labels == 1)).sum()),
        "hooks": list(contents.hooks),
        "cautions": list(contents.cautions),
        "choices": choices(contents.evaluation),
        "best": of_one_pass(contents.evaluation),
    }
