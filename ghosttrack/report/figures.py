"""Figures of an evaluation, as SVG and PNG files."""

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import beta
from sklearn.metrics import precision_recall_curve, roc_curve

from ghosttrack.evaluation.result import ALL, Evaluation, Pair
from ghosttrack.evaluation.roster import COLORS, drawn
from ghosttrack.evaluation.scores import bin_of
from ghosttrack.report.evidence import draw_bank, draw_subsets, draw_tracks
from ghosttrack.report.overview import draw_overview
from ghosttrack.report.pictures import ACCENT, FAINT, SHOWN, STYLE, WARNING, readout, save
from ghosttrack.report.tables import with_interval

LINES = ("-", "--", "-.", (0, (1, 1)), (0, (6, 2, 1, 2, 1, 2)))
"""Styles of lines in turn, for print and for colours that are near one another."""

N_COVERAGES = 150
"""Points of a curve of risk and coverage."""
OVERVIEWS = {"overview": (7.4, 4.3), "overview_narrow": (4.2, 4.4)}
"""The first picture of a report and its inches, for wide pages and for narrow ones."""


def draw(
    folder: Path,
    evaluation: Evaluation,
    labels: Int[np.ndarray, " sample"],
    hooks: Sequence[Mapping[str, Any]] = (),
    kinds: Sequence[str] = SHOWN,
) -> list[Path]:
    """Write every figure that there is something for; return the files of the first kind.

    Args:
        folder: Exists.
        evaluation: Its cross-fitted probabilities are drawn.
        labels: 1 = hallucinated, in the answers' order.
        hooks: Held-out quality of the bank, as in its `metrics.json`.
        kinds: File formats.
    """
    names = drawn(evaluation.scores)
    paths = []
    with mpl.rc_context(STYLE):
        for name, size in OVERVIEWS.items():
            paths.append(save(draw_overview(evaluation, size), folder / name, kinds))
        for name, panel in PANELS.items():
            figure = Figure(figsize=(4.6, 4.0), layout="constrained")
            axes = figure.add_subplot()
            panel(axes, labels, [(one, evaluation.scores[one]) for one in names])
            axes.legend(fontsize=7, frameon=False)
            paths.append(save(figure, folder / name, kinds))
        found = {"auroc": _forest(evaluation), "subsets": draw_subsets(evaluation)}
        pairs = [one for one in evaluation.paired if one.subset == ALL and isfinite(one.delta)]
        if pairs:
            found["pairs"] = _differences(pairs)
        if evaluation.tracking:
            found["tracks"] = draw_tracks(evaluation.tracking, evaluation.causal)
        if hooks:
            found["bank"] = draw_bank(hooks)
        paths += [save(figure, folder / name, kinds) for name, figure in found.items()]
    return paths


def _line(name: str) -> Any:  # noqa: ANN401 - a name of Matplotlib's, or dashes
    return LINES[list(COLORS).index(name) % len(LINES)]


def _roc(
    axes: Axes,
    labels: Int[np.ndarray, " sample"],
    curves: Sequence[tuple[str, Float[np.ndarray, " sample"]]],
) -> None:
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=":")
    for name, prob in curves:
        false_alarm, recall, _ = roc_curve(labels, prob)
        axes.plot(false_alarm, recall, color=COLORS[name], ls=_line(name), lw=1.4, label=name)
    axes.set(xlabel="right answers flagged", ylabel="hallucinated answers flagged", title="ROC")


def _pr(
    axes: Axes,
    labels: Int[np.ndarray, " sample"],
    curves: Sequence[tuple[str, Float[np.ndarray, " sample"]]],
) -> None:
    axes.axhline(labels.mean(), color=FAINT, linewidth=0.8, linestyle=":")
    for name, prob in curves:
        precision, recall, _ = precision_recall_curve(labels, prob)
        axes.plot(recall, precision, color=COLORS[name], ls=_line(name), lw=1.4, label=name)
    axes.set(xlabel="recall", ylabel="precision", title="Precision and recall of hallucinated")


def _calibration(
    axes: Axes,
    labels: Int[np.ndarray, " sample"],
    curves: Sequence[tuple[str, Float[np.ndarray, " sample"]]],
) -> None:
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=":")
    for name, prob in curves:
        bins = bin_of(prob)
        used = np.unique(bins)
        said = [prob[bins == one].mean() for one in used]
        found = [labels[bins == one].mean() for one in used]
        style = {"color": COLORS[name], "ls": _line(name), "lw": 1.2, "marker": "o", "ms": 3}
        axes.plot(said, found, label=name, **style)
    axes.set(
        xlabel="stated probability of hallucination",
        ylabel="share hallucinated",
        title="Calibration, bins of equal mass",
    )


def _risk_coverage(
    axes: Axes,
    labels: Int[np.ndarray, " sample"],
    curves: Sequence[tuple[str, Float[np.ndarray, " sample"]]],
) -> None:
    n = np.arange(1, len(labels) + 1)
    axes.axhline(labels.mean(), color=FAINT, linewidth=0.8, linestyle=":")
    for name, prob in curves:
        wrong = np.cumsum(labels[np.argsort(prob, kind="stable")])
        at = np.unique(np.linspace(0, len(n) - 1, N_COVERAGES).round().astype(int))
        given, wrong = n[at], wrong[at]
        low, high = (beta.ppf(end, wrong + 0.5, given - wrong + 0.5) for end in (0.025, 0.975))
        style = {"color": COLORS[name], "alpha": 0.12, "linewidth": 0}
        axes.fill_between(given / len(n), low, high, **style)
        line = {"color": COLORS[name], "ls": _line(name), "lw": 1.4}
        axes.plot(given / len(n), wrong / given, label=name, **line)
    axes.set(
        xlabel="share of answers given, the least risky first",
        ylabel="share of them hallucinated",
        title="Risk and coverage",
        xlim=(0, 1),
    )


PANELS = {
    "roc": _roc,
    "pr": _pr,
    "calibration": _calibration,
    "risk_coverage": _risk_coverage,
}
"""Figures of curves, each drawn by a panel of its own."""


def _differences(pairs: Sequence[Pair]) -> Figure:
    """Paired differences of AUROC with intervals; grey where 0 lies within."""
    figure = Figure(figsize=(7.2, 0.8 + 0.24 * len(pairs)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(0, color=FAINT, linewidth=0.8, linestyle=":")
    for place, pair in enumerate(reversed(pairs)):
        color = ACCENT if pair.ci.low > 0 else WARNING if pair.ci.high < 0 else FAINT
        axes.plot(pair.ci, (place, place), color=color, linewidth=1.6)
        says = readout(f"{pair.a} minus {pair.b}: {with_interval(pair.delta, pair.ci)}")
        axes.plot(pair.delta, place, color=color, marker="o", ms=4, gid=says)
    axes.set_yticks(range(len(pairs)), [f"{one.a} minus {one.b}" for one in reversed(pairs)])
    axes.set(xlabel="difference of AUROC, 95 % paired", title="Paired, all answers")
    axes.grid(axis="y", visible=False)
    return figure


def _forest(evaluation: Evaluation) -> Figure:
    """AUROC with interval of every detector on all answers, canaries and nulls included."""
    rows = [row for row in evaluation.rows if row.subset == "all"]
    rows.sort(key=lambda row: row.auroc)
    figure = Figure(figsize=(7.2, 0.6 + 0.24 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(0.5, color=FAINT, linewidth=0.8, linestyle=":")
    for place, row in enumerate(rows):
        color = COLORS.get(row.detector, FAINT)
        axes.plot(row.auroc_ci, (place, place), color=color, linewidth=1.6)
        says = readout(f"{row.detector}: {with_interval(row.auroc, row.auroc_ci)}")
        axes.plot(row.auroc, place, color=color, marker="o", ms=4, gid=says)
    axes.set_yticks(range(len(rows)), [row.detector for row in rows])
    axes.set(xlabel="AUROC, 95 % cluster-bootstrap interval", title="All detectors, all answers")
    axes.grid(axis="y", visible=False)
    return figure
