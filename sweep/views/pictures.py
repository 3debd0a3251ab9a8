"""Pictures of sweeps, as .svg and .png."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import MaxNLocator

from ghosttrack.report.figures import COLORS, FAINT, STYLE, save
from sweep.measures.shapes import LEAST_EXPLAINED, Shape, front
from sweep.sheet import Estimate

ACCENT, WARNING = "#5b3cc4", "#c2410c"
CURVE_COLORS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7"),
    *("#1b1f24", "#e0a800", "#56b4e9", "#7a1fa2"),
)
"""As many as can be told apart; further curves have them again in another of `DASHES`."""
DASHES = ("-", "--", ":", "-.")
WIDEST = 5.0
"""Inches of one panel alone."""
LETTER = 0.055
"""Inches of a letter in a legend."""


def draw_shapes(stem: Path, shapes: Sequence[Shape], best: Shape) -> Path:
    """Draw explained variance over k; colour = dead fraction, a ring = the choice."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDEST, 3.8), layout="constrained")
        axes = figure.add_subplot()
        ks, explained = _ends(shapes)
        dead = [shape.dead_frac for shape in shapes]
        dots = axes.scatter(ks, explained, c=dead, cmap="viridis_r", vmin=0, vmax=1, s=44, zorder=3)
        figure.colorbar(dots, label="dead fraction")
        best_ones = sorted(front(shapes), key=lambda shape: shape.k)
        axes.plot(*_ends(best_ones), color=FAINT, linewidth=1, ls="--", label="Pareto front")
        ring = {"facecolors": "none", "edgecolors": ACCENT, "linewidths": 1.8}
        axes.scatter(best.k, best.explained_variance, s=190, label="sweet spot", zorder=4, **ring)
        axes.axhline(
            LEAST_EXPLAINED,
            color=WARNING,
            linewidth=0.8,
            ls=":",
            label=f"at least {LEAST_EXPLAINED}",
        )
        failing = [shape for shape in shapes if not shape.passes]
        if failing:
            rim = [Stroke(linewidth=2.6, foreground="#ffffff"), Normal()]
            axes.scatter(
                *_ends(failing), marker="x", color=WARNING, linewidths=1.4, s=80, path_effects=rim,
                label="fails the rule", zorder=4,
            )  # fmt: skip
        for shape in shapes:
            beside = [one.explained_variance for one in shapes if one.k == shape.k]
            up = 9 if shape.explained_variance == max(beside) else -14
            axes.annotate(
                str(shape.d_sae),
                (shape.k, shape.explained_variance),
                fontsize=7,
                ha="center",
                xytext=(0, up),
                textcoords="offset points",
            )
        axes.margins(x=0.12, y=0.12)
        axes.set(xlabel="k; at each dot d_sae", ylabel="explained variance, held out")
        figure.legend(fontsize=7, frameon=False, loc="outside lower center", ncols=4)
        return save(figure, stem)


class Map(NamedTuple):
    """A quantity by layer and column, NaN where it is unknown."""

    values: Float[np.ndarray, "layer column"]
    low: float | None = None
    high: float | None = None
    """Ends of its colours; None is the value that is farthest out."""

    @property
    def ends(self) -> tuple[float, float]:
        """Ends of its colours, never the same."""
        low = float(np.nanmin(self.values)) if self.low is None else self.low
        high = float(np.nanmax(self.values)) if self.high is None else self.high
        if low < high:
            return low, high
        return (low, low + 1) if self.high is None else (high - 1, high)


def _ends(shapes: Sequence[Shape]) -> tuple[list[int], list[float]]:
    return [shape.k for shape in shapes], [shape.explained_variance for shape in shapes]


def draw_heatmaps(
    stem: Path,
    title: str,
    maps: Mapping[str, Map],
    layers: Sequence[str],
    columns: Sequence[str],
    along: str,
) -> Path:
    """Draw one map per quantity side by side; what is unknown stays blank.

    Args:
        stem: Of the files.
        title: Above all maps.
        maps: By what is shown.
        layers: Names of the rows.
        columns: Names of the columns.
        along: What they are names of.
    """
    width = 1.6 + max(2.2, 0.5 * len(columns))
    height = 1.8 + 0.3 * len(layers) + 0.05 * max(map(len, columns))
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(width * len(maps), height), layout="constrained")
        figure.suptitle(title, fontsize=10)
        for place, (name, one) in enumerate(maps.items(), start=1):
            axes = figure.add_subplot(1, len(maps), place)
            low, high = one.ends
            known = np.ma.masked_invalid(one.values)
            image = axes.imshow(known, aspect="auto", cmap="viridis", vmin=low, vmax=high)
            figure.colorbar(image, shrink=0.9)
            axes.set_title(name, fontsize=9)
            axes.set_yticks(range(len(layers)), layers, fontsize=7)
            slanted = max(map(len, columns)) > 4
            turn = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
            axes.set_xticks(range(len(columns)), columns, fontsize=7, **turn)
            axes.set_xlabel(along, fontsize=8)
            if len(columns) <= 12:
                _write_values(axes, one)
        return save(figure, stem)


def _write_values(axes: Axes, one: Map) -> None:
    """Write each number into its cell, light on dark and dark on light."""
    known = one.values[np.isfinite(one.values)].tolist()
    spelled = iter(_spelled(known))
    for (row, column), value in np.ndenumerate(one.values):
        if np.isfinite(value):
            axes.text(
                column, row, next(spelled), ha="center", va="center", fontsize=6.5,
                color="#ffffff" if value <= sum(one.ends) / 2 else "#1b1f24",
            )  # fmt: skip


def _spelled(values: Sequence[float]) -> list[str]:
    """Spell numbers with as few digits as tell apart all that four can.

    >>> _spelled([0.9731, 0.9799, 0.973]), _spelled([0.25, 0.25, 0.0]), _spelled([12.0, 8.5])
    (['0.9731', '0.9799', '0.9730'], ['0.25', '0.25', '0.0'], ['12', '8.5'])
    """
    few, more, most = (
        [f"{value:#.{digits}g}".rstrip(".") for value in values] for digits in (2, 3, 4)
    )
    return next(one for one in (few, more, most) if len(set(one)) == len(set(most)))


Curve = tuple[str, Sequence[float], Sequence[float]]
"""Name, places and values of a line."""


def draw_curves(stem: Path, panels: Mapping[str, Sequence[Curve]], along: str) -> Path:
    """Draw named lines in a panel for each quantity, one legend for all."""
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    width = max(WIDEST, 3.7 * columns)
    names = list(dict.fromkeys(name for curves in panels.values() for name, *_ in curves))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, 0.5 + 2.8 * lines), layout="constrained")
        looks = {name: _look(number) for number, name in enumerate(names)}
        for place, (quantity, curves) in enumerate(panels.items(), start=1):
            axes = figure.add_subplot(lines, columns, place)
            for name, at, values in curves:
                marker = "o" if len(at) <= 50 else ""
                color, ls = looks[name]
                axes.plot(at, values, color=color, ls=ls, marker=marker, ms=3, linewidth=1.3)
            axes.set(xlabel=along, title=quantity)
        entry = 0.6 + LETTER * max(map(len, names), default=0)
        fit = int(width / entry)
        handles = [Line2D([], [], color=color, ls=ls) for color, ls in looks.values()]
        figure.legend(
            handles, names, loc="outside lower center", fontsize=7, frameon=False,
            ncols=max(1, min(4, len(names), fit)),
        )  # fmt: skip
        return save(figure, stem)


def _look(number: int) -> tuple[str, str]:
    """Give the first 32 curves a colour and dashes of their own."""
    dashes = DASHES[number // len(CURVE_COLORS) % len(DASHES)]
    return CURVE_COLORS[number % len(CURVE_COLORS)], dashes


def draw_positions(
    stem: Path,
    title: str,
    panels: Mapping[str, tuple[Int[np.ndarray, " position"], Float[np.ndarray, "layer position"]]],
) -> Path:
    """Draw each quantity over positions: every layer, their mean, odd and even ones marked."""
    marks = ((1, "odd", ACCENT), (0, "even", WARNING))
    with mpl.rc_context(STYLE):
        size = (max(WIDEST, 0.4 + 2.6 * len(panels)), 3.2)
        figure = Figure(figsize=size, layout="constrained")
        figure.suptitle(title, fontsize=10)
        for place, (quantity, (positions, values)) in enumerate(panels.items(), start=1):
            axes = figure.add_subplot(1, len(panels), place)
            axes.plot(positions, values.T, color=FAINT, linewidth=0.6, alpha=0.5)
            means = values.mean(0)
            axes.plot(positions, means, color=COLORS[-1], linewidth=1.2)
            for parity, name, color in marks:
                own = positions % 2 == parity
                axes.plot(positions[own], means[own], "o", color=color, ms=6, label=name)
            axes.set(xlabel="position", title=quantity)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles = [Line2D([], [], color=FAINT, linewidth=0.6), Line2D([], [], color=COLORS[-1])]
        handles += [Line2D([], [], color=color, marker="o", ls="") for *_, color in marks]
        names = ["a layer", "mean over layers", *(name for _, name, _ in marks)]
        figure.legend(
            handles, names, loc="outside lower center", fontsize=7, frameon=False, ncols=4
        )
        return save(figure, stem)


def draw_intervals(stem: Path, title: str, rows: Sequence[tuple[str, str, Estimate]]) -> Path:
    """Draw an estimate with its interval per row; what is not defined stays blank.

    Args:
        stem: Of the files.
        title: Names the quantity.
        rows: Label, group (one colour each) and AUROC; the first stands on top.
    """
    groups = list(dict.fromkeys(group for _, group, _ in rows))
    with mpl.rc_context(STYLE):
        width = WIDEST + LETTER * max((len(label) for label, *_ in rows), default=0)
        figure = Figure(figsize=(width, 0.9 + 0.24 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        axes.axvline(0.5, color=FAINT, linewidth=0.8, linestyle=":")
        for place, (_, group, estimate) in enumerate(rows):
            color = COLORS[groups.index(group) % len(COLORS)]
            value, *ends = (np.nan if number is None else number for number in estimate)
            axes.plot(ends, (place, place), color=color, linewidth=1.6)
            axes.plot(value, place, color=color, marker="o", ms=4)
        axes.set_yticks(range(len(rows)), [label for label, *_ in rows], fontsize=7)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set(xlabel="AUROC, 95 % cluster-bootstrap interval", title=title)
        axes.grid(axis="y", visible=False)
        return save(figure, stem)
