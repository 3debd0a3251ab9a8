"""Pictures of what the numbers rest on: sets of answers, the bank layer by layer, tracks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ghosttrack.evaluation.result import CausalRate, Evaluation, Interval, NullComparison
from ghosttrack.evaluation.roster import COLORS, drawn
from ghosttrack.report.pictures import ACCENT, FAINT, INK, MEAN, WARNING
from ghosttrack.sae.hooks import FVU_BANDS

QUALITY = {
    "fvu": "FVU: share not explained",
    "dead_frac": "dead latents, share",
    "ce_recovered": "cross-entropy recovered",
    "l0": "active latents per token",
}
"""What is drawn of a bank, where it is defined."""
BAND_COLORS = ("#15803d", "#4d7c0f", "#b45309", "#b91c1c")
NULL_MARKS = "xs^Dv"
"""Of nulls, in turn."""
Dot = tuple[str, float, Interval | None, str, str]
"""Row, value, interval, name in the legend, marker."""


def draw_subsets(evaluation: Evaluation) -> Figure:
    """AUROC with interval of the chief detectors on every set of answers."""
    there, sets = {row.detector for row in evaluation.rows}, evaluation.subsets
    names = [name for name in drawn(evaluation.scores) if name in there]
    figure = Figure(figsize=(7.2, 1.1 + 0.1 * len(sets) * (len(names) + 1)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(0.5, color=FAINT, linewidth=0.8, linestyle=":")
    for number, name in enumerate(names):
        rows = [evaluation.row(name, subset) for subset in sets]
        at = np.arange(len(sets)) + 0.8 * ((number + 0.5) / len(names) - 0.5)
        axes.hlines(at, *zip(*(row.auroc_ci for row in rows), strict=True), color=COLORS[name])
        axes.plot([row.auroc for row in rows], at, "o", color=COLORS[name], ms=4, label=name)
    sizes = {row.subset: row.n for row in evaluation.rows}
    axes.set_yticks(range(len(sets)), [f"{one}, n = {sizes[one]:,}" for one in sets])
    axes.set(ylim=(len(sets) - 0.5, -0.5), xlabel="AUROC, 95 % cluster-bootstrap interval")
    axes.grid(axis="y", visible=False)
    if names:
        figure.legend(fontsize=7, frameon=False, loc="outside lower center", ncols=4)
    return figure


def draw_bank(hooks: Sequence[Mapping[str, Any]]) -> Figure:
    """Held-out quality over layers: a dot per hook point, a line through each layer's mean."""
    measured = {name: np.array([one.get(name) for one in hooks], dtype=float) for name in QUALITY}
    panels = {name: values for name, values in measured.items() if np.isfinite(values).any()}
    figure = Figure(figsize=(2.4 * len(panels), 2.6), layout="constrained")
    for place, (name, values) in enumerate(panels.items(), start=1):
        axes, is_known = figure.add_subplot(1, len(panels), place), np.isfinite(values)
        layers, known = np.array([one["layer"] for one in hooks])[is_known], values[is_known]
        means = [known[layers == layer].mean() for layer in np.unique(layers)]
        axes.plot(np.unique(layers), means, color=MEAN, lw=1.2)
        axes.plot(layers, known, "o", color=MEAN, ms=3.5)
        low, high = min(0.0, float(known.min())), 1.2 * float(known.max())
        axes.set(xlabel="layer", title=QUALITY[name], ylim=(low, high if high > low else low + 1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if name == "fvu":
            _shade(axes)
    return figure


def _shade(axes: Axes) -> None:
    """Colour and name the bands of quality, as far as they are seen."""
    top, ends = axes.get_ylim()[1], (0.0, *FVU_BANDS.values(), np.inf)
    for name, low, high, color in zip(
        (*FVU_BANDS, "poor"), ends[:-1], ends[1:], BAND_COLORS, strict=True
    ):
        if low < top:
            middle = (low + min(high, top)) / 2
            axes.axhspan(low, min(high, top), color=color, alpha=0.12, linewidth=0)
            place = axes.get_yaxis_transform()
            axes.text(0.98, middle, name, transform=place, ha="right", va="center", fontsize=7)


def draw_tracks(tracking: Sequence[NullComparison], causal: Sequence[CausalRate]) -> Figure:
    """How long tracks last and how often links pass, each beside what means nothing."""
    kinds = list(dict.fromkeys(one.null for one in tracking))
    lengths: list[Dot] = []
    shares: list[Dot] = []
    for one in tracking:
        name = one.measure.removeprefix("share of ").removesuffix(" that goes on")
        dots = lengths if name == one.measure else shares
        dots.append((name, one.mean, one.mean_ci, "tracks", "o"))
        mark = NULL_MARKS[kinds.index(one.null) % len(NULL_MARKS)]
        dots.append((name, one.null_mean, None, one.null, mark))
    tried: list[Dot] = []
    for row in causal:
        tried.append((f"layers {row.layers}", row.rate, row.ci, "links", "o"))
        tried.append((f"layers {row.layers}", row.chance, row.chance_ci, "pairs without link", "x"))
    panels = {
        "mean length": lengths,
        "latents that go on, share": shares,
        "links that pass ablation, share": tried,
    }
    panels = {said: dots for said, dots in panels.items() if dots}
    n_rows = max(len({dot[0] for dot in dots}) for dots in panels.values())
    size = (3.2 * len(panels), 1.3 + 0.28 * n_rows)
    figure = Figure(figsize=size, layout="constrained")
    for place, (said, dots) in enumerate(panels.items(), start=1):
        _dots(figure.add_subplot(1, len(panels), place), said, dots)
    named = {
        said: handle
        for axes in figure.axes
        for handle, said in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        list(named.values()), list(named), fontsize=7, frameon=False,
        loc="outside lower center", ncols=4,
    )  # fmt: skip
    return figure


def _dots(axes: Axes, title: str, dots: Sequence[Dot]) -> None:
    """Draw a row per name; what means nothing is grey or orange, and without a line where bare."""
    rows = list(dict.fromkeys(dot[0] for dot in dots))
    for name, value, interval, said, mark in dict.fromkeys(dots):
        at = rows.index(name) + (0.0 if mark == "o" else 0.22)
        color = ACCENT if mark == "o" else WARNING if interval else INK
        if interval is not None:
            axes.plot(interval, (at, at), color=color, lw=1.4)
        axes.plot(value, at, mark, color=color, ms=4.5, label=said)
    axes.set_yticks(range(len(rows)), rows, fontsize=7)
    axes.set(title=title, ylim=(len(rows) - 0.4, -0.6), xlim=(0, None))
    axes.grid(axis="y", visible=False)
