"""The first picture of a report: what each detector is worth, and what it costs."""

from collections.abc import Sequence
from math import isfinite

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ghosttrack.evaluation.result import ALL, Evaluation, Row
from ghosttrack.evaluation.roster import COLORS
from ghosttrack.report.first import CHANCE, ORACLE, OWN, is_beside, leader
from ghosttrack.report.pictures import ACCENT, FAINT, INK, readout
from ghosttrack.report.tables import with_interval

LEAST_COST = 0.4
"""Where on the axis of passes stands what needs none."""
APART = 1.045
"""Factor between detectors of one cost, so that their intervals can be told apart."""
LABEL_GAP = 0.05
"""Least distance of two names, as a share of the axis."""
WIDE = 2.0
"""Times the usual width of a canary's interval, from which on the band leaves it out."""
MIDDLE = 0.55
"""Where on the width what is said of bands stands."""
CANARY_SPAN = (0.37, 0.73)
"""Where on the width canaries stand: they cost nothing that the axis knows."""
LETTER = 0.085
"""Inches of a letter of a name, more rather than less."""


def draw_overview(evaluation: Evaluation, size: tuple[float, float]) -> Figure:
    """Draw AUROC with interval over forward passes; canaries and the oracle are bands.

    Named are the best of at most that cost, what all is measured against, and tracks; the rest
    are dots that the table of detectors names.

    Args:
        evaluation: Whose rows on all answers are drawn.
        size: Inches of the picture.
    """
    rows = [row for row in evaluation.rows if row.subset == ALL and isfinite(row.auroc)]
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    _bands(axes, evaluation, rows)
    drawn = sorted((row for row in rows if row.detector != ORACLE), key=_order)
    named = set(_named(evaluation, drawn))
    at: list[float] = []
    for place, row in enumerate(drawn):
        same = place > 0 and _cost(drawn[place - 1]) == _cost(row)
        at.append(at[-1] * APART if same else _cost(row))
        color = COLORS.get(row.detector, FAINT) if row.detector in named else FAINT
        axes.plot((at[-1], at[-1]), row.auroc_ci, color=color, linewidth=1.4, zorder=3)
        area = with_interval(row.auroc, row.auroc_ci)
        says = readout(f"{row.detector}: AUROC {area}, passes: {row.forwards:.0f}")
        axes.plot(at[-1], row.auroc, color=color, marker="o", ms=4.5, zorder=4, gid=says)
    _axis(axes, drawn, at)
    oracle = next((row.auroc for row in rows if row.detector == ORACLE), 2.0)
    points = [(x, row) for x, row in zip(at, drawn, strict=True) if row.detector in named]
    _names(axes, oracle, size[0], points)
    return figure


def _order(row: Row) -> tuple[float, float]:
    return _cost(row), -row.auroc


def _cost(row: Row) -> float:
    return max(row.forwards, LEAST_COST)


def _bands(axes: Axes, evaluation: Evaluation, rows: Sequence[Row]) -> None:
    """Shade where nothing is known, and where everything is."""
    axes.axhline(CHANCE, color=FAINT, linewidth=0.8, linestyle=":")
    _canaries(axes, evaluation)
    for row in rows:
        if row.detector == ORACLE:
            axes.axhspan(*row.auroc_ci, color=ACCENT, alpha=0.14, linewidth=0)
            _beside(axes, row.auroc, "knows how often facts were read")


def _canaries(axes: Axes, evaluation: Evaluation) -> None:
    """Draw a thin line each, a band over all but the wide ones, and name the widest."""
    ends = {
        name: ci
        for name, ci in evaluation.canaries_ci.items()
        if isfinite(ci.low) and name not in evaluation.signals
    }
    if not ends:
        return
    usual = WIDE * float(np.median([ci.high - ci.low for ci in ends.values()]))
    tight = [ci for ci in ends.values() if ci.high - ci.low <= usual]
    low, high = min(ci.low for ci in tight), max(ci.high for ci in tight)
    axes.axhspan(low, high, color=FAINT, alpha=0.16, linewidth=0)
    across = axes.get_yaxis_transform()
    for at, (name, ci) in zip(np.linspace(*CANARY_SPAN, len(ends)), ends.items(), strict=True):
        axes.plot((at, at), ci, transform=across, color=FAINT, linewidth=0.8, zorder=2)
        value = evaluation.canaries[name]
        axes.plot(at, value, "_", transform=across, color=FAINT, ms=4, zorder=2)
    widest = max(ends, key=lambda name: ends[name].high - ends[name].low)
    is_wide = ends[widest] not in tight
    said = f"{len(ends)} canaries: know nothing"
    top = ends[widest].high if is_wide else high
    _beside(axes, top + 0.01, f"{said}\nwidest: {widest}" if is_wide else said, "bottom")


def _beside(axes: Axes, height: float, text: str, side: str = "center") -> None:
    axes.text(
        MIDDLE, height, text, transform=axes.get_yaxis_transform(), ha="center", va=side,
        fontsize=7.5, color=INK, zorder=5,
    )  # fmt: skip


def _named(evaluation: Evaluation, rows: Sequence[Row]) -> list[str]:
    """Choose who is named: nobody better costs less, or it is what the others are held against."""
    usable = [row for row in rows if not is_beside(row)]
    best = [
        row.detector
        for row in usable
        if all(one.auroc < row.auroc for one in usable if _order(one) < _order(row))
    ]
    chosen = (leader(evaluation), *evaluation.recommended)
    always = (OWN, "tracks", "null:shuffled", "control:surface", *chosen)
    return [*best, *(row.detector for row in rows if row.detector in always)]


def _axis(axes: Axes, rows: Sequence[Row], at: Sequence[float]) -> None:
    costs = sorted({_cost(row) for row in rows})
    apart = [one for i, one in enumerate(costs) if i == 0 or one > 1.35 * costs[i - 1]]
    axes.set_xscale("log")
    axes.set_xticks(apart, ["0" if one == LEAST_COST else f"{one:.0f}" for one in apart])
    axes.set_xticks([], minor=True)
    margin = max((max(at) / min(at)) ** 0.06, 1.3)
    axes.set_xlim(min(at) / margin, max(at) * margin)
    axes.set(xlabel="forward passes per answer", ylabel="AUROC, 95 % interval")
    axes.grid(axis="x", visible=False)


def _names(axes: Axes, oracle: float, inches: float, points: Sequence[tuple[float, Row]]) -> None:
    """Write names above dots, or below one or the oracle, none upon another name."""
    low, high = axes.get_ylim()
    left, right = np.log(axes.get_xlim())
    gap = LABEL_GAP * (high - low)
    taken: list[tuple[float, float, float]] = []
    for x, row in points:
        over = [one.auroc - row.auroc for _, one in points if _cost(one) == _cost(row)]
        is_below = any(0 < rise < 3 * gap for rise in over)
        way = -1 if is_below or abs(row.auroc_ci.high + 0.6 * gap - oracle) < 0.6 * gap else 1
        half = LETTER * len(row.detector) / inches / 2
        middle = float(np.clip((np.log(x) - left) / (right - left), half, 1 - half))
        start = y = (row.auroc_ci.high if way > 0 else row.auroc_ci.low) + way * 0.6 * gap
        while any(abs(y - b) < gap and abs(middle - a) < half + w for a, b, w in taken):
            y += way * gap
        taken.append((middle, y, half))
        place = float(np.exp(left + middle * (right - left)))
        arrow = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.5, "shrinkB": 3}
        axes.annotate(
            row.detector, (x, row.auroc), (place, y), fontsize=8, ha="center", va="center",
            color=INK, arrowprops=arrow if y != start else None, zorder=6,
        )  # fmt: skip
    heights = [y for _, y, _ in taken]
    axes.set_ylim(min([low, *(y - gap for y in heights)]), max([high, *(y + gap for y in heights)]))
