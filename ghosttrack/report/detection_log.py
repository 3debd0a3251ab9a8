"""What W&B is told of an evaluation: every headline number, tables, curves and figures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import wandb
from jaxtyping import Float, Int
from pytorch_lightning.loggers import Logger, WandbLogger
from sklearn.metrics import precision_recall_curve, roc_curve

from ghosttrack.evaluation.result import Evaluation
from ghosttrack.evaluation.roster import CHIEF, COLORS, drawn
from ghosttrack.evaluation.scores import bin_of
from ghosttrack.report.contents import ReportContents
from ghosttrack.wandb_client import log_numbers

NUMBERS = ("auroc", "auprc", "f1", "ece")
AREA = ("area-under-curve/v0", {"x": "x", "y": "y", "class": "detector"})
CHARTS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "roc": AREA,
    "pr": AREA,
    "calibration": (
        "lineseries/v0",
        {"step": "stated", "lineVal": "hallucinated", "lineKey": "detector"},
    ),
    **{
        f"confusion/{name}": (
            "confusion_matrix/v1",
            {field: field for field in ("Actual", "Predicted", "nPredictions")},
        )
        for name in CHIEF
    },
}
"""W&B's own kind of each chart, and what it asks for with the column that gives it."""
MOST_POINTS = 200
"""Of a curve; more could not be seen."""

Rows = list[tuple[Any, ...]]


def log_evaluation(
    loggers: Sequence[Logger], contents: ReportContents, figures: Sequence[Path]
) -> None:
    """Log an evaluation: to any logger the numbers, to W&B tables, curves and figures too.

    Args:
        loggers: Lightning's.
        contents: What was found, and the answers.
        figures: SVG files, each with a PNG beside it.
    """
    found = contents.evaluation
    numbers = {
        f"detect/{name}/{row.detector}/{row.subset}": getattr(row, name)
        for row in found.rows
        if row.detector in COLORS
        for name in NUMBERS
    }
    canaries = {f"canary/{name}": value for name, value in found.canaries.items()}
    log_numbers(loggers, {**numbers, **canaries})
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            shown = {f"figures/{path.stem}": _picture(path) for path in figures}
            logger.experiment.log({**_tables(contents), **_curves(contents), **shown})


def _tables(contents: ReportContents) -> dict[str, Any]:
    found = contents.evaluation
    return {
        "detectors": _table(
            ("detector", "subset", "n", "auroc", "low", "high", "f1", "ece", "passes"),
            [
                (
                    *(one.detector, one.subset, one.n, one.auroc, *one.auroc_ci),
                    *(one.f1, one.ece, one.forwards),
                )
                for one in found.rows
            ],
        ),
        "canaries": _table(
            ("canary", "auroc", "low", "high"),
            [(name, area, *found.canaries_ci[name]) for name, area in found.canaries.items()],
        ),
        "answers": _answers(contents),
    }


def _answers(contents: ReportContents) -> Any:  # noqa: ANN401 - W&B's table
    """Give every answer with what each headline detector says of it."""
    answers, scores = contents.answers, contents.evaluation.scores
    names = [name for name in COLORS if name in scores]
    texts = zip(
        answers.question_ids, answers.groups, answers.asked, answers.texts,
        map(" | ".join, answers.references), answers.categories, answers.labels.tolist(),
        answers.prob.tolist(), strict=True,
    )  # fmt: skip
    columns = ("id", "group", "prompt", "answer", "references", "category", "hallucinated")
    rows = [
        (*text, *(float(scores[name][place]) for name in names)) for place, text in enumerate(texts)
    ]
    return _table((*columns, "own probability", *(f"P({name})" for name in names)), rows)


def _curves(contents: ReportContents) -> dict[str, Any]:
    """Draw curves that can be zoomed into and put beside those of other runs."""
    found, labels = contents.evaluation, contents.answers.labels
    scores = [(name, found.scores[name]) for name in drawn(found.scores)]
    rows = {
        "roc": [(*point, name) for name, prob in scores for point in _roc(labels, prob)],
        "pr": [(*point, name) for name, prob in scores for point in _pr(labels, prob)],
        "calibration": [(*point, name) for name, prob in scores for point in _bins(labels, prob)],
    }
    titles = {
        "roc": "ROC: right answers flagged (x), hallucinated flagged (y)",
        "pr": "Precision (y) and recall (x) of hallucinated",
        "calibration": "Calibration",
    }
    curves = {key: _chart(*CHARTS[key], title, rows[key]) for key, title in titles.items()}
    return curves | dict(_matrices(found, labels))


def _matrices(found: Evaluation, labels: Int[np.ndarray, " sample"]) -> Iterator[tuple[str, Any]]:
    """Count at the threshold that each answer's inner folds chose; give charts by their keys."""
    words = ("right", "hallucinated")
    for name in CHIEF:
        if name in found.flagged:
            said = found.flagged[name].astype(int)
            rows = [
                (words[is_so], words[flag], int(((labels == is_so) & (said == flag)).sum()))
                for is_so in (0, 1)
                for flag in (0, 1)
            ]
            key = f"confusion/{name}"
            yield key, _chart(*CHARTS[key], f"Confusion, {name}", rows)


def _roc(labels: Int[np.ndarray, " sample"], prob: Float[np.ndarray, " sample"]) -> Rows:
    false_alarm, recall, _ = roc_curve(labels, prob)
    return _thin(false_alarm, recall)


def _pr(labels: Int[np.ndarray, " sample"], prob: Float[np.ndarray, " sample"]) -> Rows:
    precision, recall, _ = precision_recall_curve(labels, prob)
    return _thin(recall, precision)


def _bins(labels: Int[np.ndarray, " sample"], prob: Float[np.ndarray, " sample"]) -> Rows:
    bins = bin_of(prob)
    return [
        (float(prob[bins == one].mean()), float(labels[bins == one].mean()))
        for one in np.unique(bins)
    ]


def _thin(x: Float[np.ndarray, " point"], y: Float[np.ndarray, " point"]) -> Rows:
    kept = np.unique(np.linspace(0, len(x) - 1, min(MOST_POINTS, len(x))).astype(int))
    return list(zip(x[kept].tolist(), y[kept].tolist(), strict=True))


def _chart(kind: str, fields: Mapping[str, str], title: str, rows: Sequence[Sequence[Any]]) -> Any:  # noqa: ANN401 - W&B's custom chart
    """Draw rows with one of W&B's own charts.

    Args:
        kind: As in `wandb/<kind>`.
        fields: What the chart asks for, and the column that gives it; every column is in it.
        title: Above it.
        rows: Cells in the order of `fields`.
    """
    cells = _table(list(fields.values()), rows)
    return wandb.plot_table(f"wandb/{kind}", cells, dict(fields), {"title": title})


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> wandb.Table:
    """Make a table."""
    return wandb.Table(columns=list(columns), data=[list(row) for row in rows])


def _picture(path: Path) -> wandb.Image:
    """Take the PNG beside a figure."""
    return wandb.Image(str(path.with_suffix(".png")))
