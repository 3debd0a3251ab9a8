"""Pictures of curves, positions and intervals, as .svg and .png."""

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ghosttrack.report.tables import Estimate, with_interval

INK = "#1b1f24"
STYLE: dict[Any, Any] = {
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
    ),
    "svg.hashsalt": "ghosttrack",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e9ed",
    "axes.axisbelow": True,
}
FAINT = "#8b949e"
SHOWN = ("svg", "png")
"""Formats of a figure that a page shows and that W&B takes."""
UNDATED: dict[str, dict[str, Any]] = {
    "svg": {"Date": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
}
"""Metadata by format, such that the same figure is the same bytes."""
ACCENT, WARNING = "#5b3cc4", "#c2410c"
GROUP_COLORS = (
    "#2563eb",
    "#1b1f24",
    "#0e7490",
    "#0891b2",
    "#4d7c0f",
    "#b45309",
    "#9d4edd",
    "#5b3cc4",
    "#be185d",
    "#0f766e",
    "#15803d",
    "#a16207",
)
"""Of groups of intervals, in turn."""
MEAN = "#155e75"
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


Curve = tuple[str, Sequence[float], Sequence[float]]
"""Name, places and values of a line."""


def readout(*texts: str) -> str:
    """Spell the `gid` of drawn dots such that a page says each one's text."""
    return json.dumps(texts)


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
                points = zip(at, values, strict=True)
                says = readout(*(f"{name}, {x:g}: {y:.3g}" for x, y in points if isfinite(y)))
                style = {
                    "marker": marker,
                    "ms": 3,
                    "linewidth": 1.3,
                    "gid": says if marker else None,
                }
                axes.plot(at, values, color=color, ls=ls, **style)
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
            axes.plot(positions, means, color=MEAN, linewidth=1.2)
            for parity, name, color in marks:
                own = positions % 2 == parity
                axes.plot(positions[own], means[own], "o", color=color, ms=6, label=name)
            axes.set(xlabel="position", title=quantity)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles = [Line2D([], [], color=FAINT, linewidth=0.6), Line2D([], [], color=MEAN)]
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
        for place, (label, group, estimate) in enumerate(rows):
            color = GROUP_COLORS[groups.index(group) % len(GROUP_COLORS)]
            value, *ends = (np.nan if number is None else number for number in estimate)
            axes.plot(ends, (place, place), color=color, linewidth=1.6)
            says = readout(f"{label}: {with_interval(value, ends)}")
            axes.plot(value, place, color=color, marker="o", ms=4, gid=says)
        axes.set_yticks(range(len(rows)), [label for label, *_ in rows], fontsize=7)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set(xlabel="AUROC, 95 % cluster-bootstrap interval", title=title)
        axes.grid(axis="y", visible=False)
        return save(figure, stem)


def save(figure: Figure, stem: Path, kinds: Sequence[str] = SHOWN) -> Path:
    """Write a figure in several formats, laid out once and without dates; return the first file."""
    paths = [stem.with_suffix(f".{kind}") for kind in kinds]
    if layout := figure.get_layout_engine():
        layout.execute(figure)
        figure.set_layout_engine(None)
    for path in paths:
        is_clear = path.suffix == ".svg"  # a page has its own ground, dark or light
        figure.savefig(path, dpi=150, metadata=UNDATED[path.suffix[1:]], transparent=is_clear)
    return paths[0]
