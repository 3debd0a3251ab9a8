"""The first picture of a report: what each detector is worth, and what it costs."""

from collections.abc import Container, Sequence
from itertools import groupby
from math import isfinite, log
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ghosttrack.evaluation.result import ALL, Evaluation, Interval, Row
from ghosttrack.evaluation.roster import COLORS
from ghosttrack.report.first import CHANCE, ORACLE, OWN, is_beside, leader
from ghosttrack.report.pictures import ACCENT, FAINT, INK, readout
from ghosttrack.report.tables import with_interval

LEAST_COST = 0.4
"""Where on the axis of passes stands what needs none."""
APART = 1.045
"""Factor between detectors of one cost, so that their intervals can be told apart."""
SPREAD, NEAR = 0.4, 0.3
"""Share of the way to the next cost that detectors of one cost may take, and how far on the
logarithmic axis the next one is at least."""
DOT = 0.008
"""Half the width of a dot, as a share of the axis."""
TICK = 0.3
"""Inches between two numbers on the axis of passes."""
N_PLACES = 20
"""Above a dot, and below it, that are tried for its name."""
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
    points = list(zip(_places(drawn), drawn, strict=True))
    named = set(_named(evaluation, drawn))
    for x, row in points:
        color = COLORS.get(row.detector, FAINT) if row.detector in named else FAINT
        axes.plot((x, x), row.auroc_ci, color=color, linewidth=1.4, zorder=3)
        area = with_interval(row.auroc, row.auroc_ci)
        says = readout(f"{row.detector}: AUROC {area}, passes: {row.forwards:.3g}")
        axes.plot(x, row.auroc, color=color, marker="o", ms=4.5, zorder=4, gid=says)
    _axis(axes, [_cost(row) for row in drawn], [x for x, _ in points], size[0])
    walls = [row.auroc_ci for row in rows if row.detector == ORACLE]
    _names(axes, Ground(size[0], walls), points, named)
    return figure


def _places(rows: Sequence[Row]) -> list[float]:
    """Place detectors of one cost side by side around it, nearer to it than to the next."""
    places: list[float] = []
    for cost, alike in groupby(rows, key=_cost):
        n = len(list(alike))
        away = [abs(log(_cost(one) / cost)) for one in rows]
        room = min((one for one in away if one > NEAR), default=1.0)
        width = min((n - 1) * log(APART), SPREAD * room)
        places += (cost * np.exp(np.linspace(-width / 2, width / 2, n))).tolist()
    return places


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
            place = (MIDDLE, row.auroc)
            _beside(axes, place, "knows how often facts were read", ha="center", va="center")


def _canaries(axes: Axes, evaluation: Evaluation) -> None:
    """Draw a thin line each, a band over all but the wide ones, and name the widest."""
    ends = {
        name: ci
        for name, ci in evaluation.canaries_ci.items()
        if ci.low < ci.high and name not in evaluation.signals
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
    said = f"{len(ends)} canaries:\nknow nothing" + (f"\nwidest:\n{widest}" if is_wide else "")
    _beside(axes, (CANARY_SPAN[1] + 0.015, low), said, ha="left", va="bottom")


def _beside(axes: Axes, place: tuple[float, float], text: str, ha: str, va: str) -> None:
    axes.text(
        *place, text, transform=axes.get_yaxis_transform(), fontsize=7.5, color=INK, zorder=5,
        ha=ha, va=va, in_layout=False,
    )  # fmt: skip


def _named(evaluation: Evaluation, rows: Sequence[Row]) -> list[str]:
    """Choose who is named: nobody better costs less, or it is what the others are held against."""
    beside = {row.detector for row in rows if is_beside(row)} | {*evaluation.recommended}
    usable = [row for row in rows if row.detector not in beside]
    best = [
        row.detector
        for row in usable
        if all(one.auroc < row.auroc for one in usable if _order(one) < _order(row))
    ]
    always = (OWN, "tracks", "null:shuffled", "control:surface", leader(evaluation))
    return [*best, *(row.detector for row in rows if row.detector in always)]


def _axis(axes: Axes, costs: Sequence[float], at: Sequence[float], inches: float) -> None:
    span = max(at) / min(at)
    ticks: list[float] = []
    for cost in sorted({*costs}):
        if not ticks or cost > ticks[-1] * span ** (TICK / inches):
            ticks.append(cost)
    axes.set_xscale("log")
    axes.set_xticks(ticks, ["0" if one == LEAST_COST else f"{one:.3g}" for one in ticks])
    axes.set_xticks([], minor=True)
    margin = max(span**0.06, 1.3)
    axes.set_xlim(min(at) / margin, max(at) * margin)
    axes.set(xlabel="forward passes per answer", ylabel="AUROC, 95 % interval")
    axes.grid(axis="x", visible=False)


class Ground(NamedTuple):
    """What names are written on."""

    inches: float
    walls: Sequence[Interval]
    """Bands that no name may cover."""


def _taken(axes: Axes, inches: float) -> list[tuple[float, float, float]]:
    """Give middle, height and half the width of every line of text."""
    line = LABEL_GAP * float(np.ptp(axes.get_ylim()))
    taken: list[tuple[float, float, float]] = []
    for text in axes.texts:
        (x, y), lines = text.get_position(), text.get_text().split("\n")
        half = LETTER * max(map(len, lines)) / inches / 2
        middle = x + half if text.get_horizontalalignment() == "left" else x
        taken += [(middle, y + place * line, half) for place in range(len(lines))]
    return taken


def _names(
    axes: Axes, ground: Ground, points: Sequence[tuple[float, Row]], named: Container[str]
) -> None:
    """Write names as near to their dots as no other name, text or interval is in the way."""
    low, high = axes.get_ylim()
    left, right = np.log(axes.get_xlim())
    gap, taken = LABEL_GAP * (high - low), _taken(axes, ground.inches)
    across = [(float(np.log(x) - left) / (right - left), row.auroc_ci) for x, row in points]
    heights = [low, high]
    for (x, row), (at, ci) in zip(points, across, strict=True):
        if row.detector not in named:
            continue
        half = LETTER * len(row.detector) / ground.inches / 2
        middle = min(max(at, half), 1 - half)
        steps = (gap * (0.6 + step) for step in range(N_PLACES))
        places = [y for step in steps for y in (ci.high + step, ci.low - step)]
        walls = [one for where, one in across if abs(where - middle) < half + DOT]
        texts = [b for a, b, w in taken if abs(a - middle) < half + w]
        y = _free(places, gap, [*walls, *ground.walls], texts)
        taken.append((middle, y, half))
        heights += [y - gap, y + gap]
        place = float(np.exp(left + middle * (right - left)))
        arrow = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.5, "shrinkB": 3}
        axes.annotate(
            row.detector, (x, row.auroc), (place, y), fontsize=8, ha="center", va="center",
            color=INK, arrowprops=None if y in places[:2] else arrow, zorder=6,
        )  # fmt: skip
    axes.set_ylim(min(heights), max(heights))


def _free(
    places: Sequence[float], gap: float, walls: Sequence[Interval], texts: Sequence[float]
) -> float:
    """Choose the first height that keeps off intervals and texts, else the first."""
    for y in places:
        is_on_wall = any(one.low - gap / 2 < y < one.high + gap / 2 for one in walls)
        if not is_on_wall and all(abs(y - text) >= gap for text in texts):
            return y
    return places[0]
