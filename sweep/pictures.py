"""Pictures of grids, layers and detection, as .svg and .png."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke

from ghosttrack.analysis.evaluations import EvaluationRecord, auroc
from ghosttrack.analysis.runs import BankRecord
from ghosttrack.report.pictures import (
    ACCENT,
    CURVE_COLORS,
    FAINT,
    STYLE,
    WARNING,
    WIDEST,
    Curve,
    draw_curves,
    draw_intervals,
    readout,
    save,
)
from ghosttrack.sae.hooks import place_of
from sweep.shapes import LEAST_EXPLAINED, Shape, front
from sweep.tables import hooks_of, layers_of

CURVES = {"fvu": "FVU", "dead_frac": "dead fraction", "ce_recovered": "cross-entropy recovered"}
"""What is drawn over depth."""
MAPPED = {
    "mse": ("loss: mean squared error", (0.0, None)),
    "explained_variance": ("explained variance", (None, 1.0)),
    "dead_frac": ("dead fraction", (0.0, None)),
}
"""What each is called, and the ends of its colours that are no value of the map."""


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


def heatmaps(banks: Sequence[BankRecord], folder: Path) -> list[Path]:
    """Draw every bank; return the SVG files."""
    with_positions = [bank for bank in banks if any("_pos_" in hook["hook"] for hook in bank.hooks)]
    paths = [
        _draw_maps(
            folder / f"heatmap-{bank.model}-{bank.name}", bank.label, _by_position(bank), "position"
        )
        for bank in with_positions
    ]
    rest = [bank for bank in banks if bank not in with_positions]
    if rest:
        hooks, models = hooks_of(rest), {bank.model for bank in rest}
        if len(models) > 1:
            hooks["bank"] = hooks["model"] + " " + hooks["bank"]
        title = models.pop() if len(models) == 1 else "all models"
        paths.append(_draw_maps(folder / "heatmap-layers", title, hooks, "bank"))
    return paths


def _by_position(bank: BankRecord) -> pd.DataFrame:
    hooks = sorted(bank.hooks, key=lambda hook: place_of(hook["hook"])[1])
    return hooks_of([bank._replace(hooks=hooks)])


def _draw_maps(stem: Path, title: str, hooks: pd.DataFrame, along: str) -> Path:
    """Draw a map per quantity: layers over columns, in the order in which hook points have them.

    What is unknown stays blank; `along` says what columns are names of.
    """
    grid = hooks.pivot(index="layer", columns=along, values=list(MAPPED))
    columns = list(hooks[along].unique())
    maps = {
        said: Map(grid.xs(name, axis="columns")[columns].to_numpy(float), *ends)
        for name, (said, ends) in MAPPED.items()
    }
    layers = [f"layer {layer}" for layer in grid.index]
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

    >>> _spelled([0.9731, 0.9799, 0.973]), _spelled([0.25, 0.25, 0.0]), _spelled([138.0, 8.5])
    (['0.9731', '0.9799', '0.9730'], ['0.25', '0.25', '0.0'], ['138', '8.5'])
    """
    few, more, most = (
        [
            f"{value:.0f}" if abs(value) >= 100 else f"{value:#.{digits}g}".rstrip(".")
            for value in values
        ]
        for digits in (2, 3, 4)
    )
    return next(one for one in (few, more, most) if len(set(one)) == len(set(most)))


def draw_depth(stem: Path, banks: Sequence[BankRecord]) -> Path:
    """Draw each bank's metrics over depth, 0 its first layer and 1 its last; positions' means."""
    layers = {bank.label: layers_of(bank) for bank in banks}
    every = {
        said: [_curve(label, pd.Series(means[name]).dropna()) for label, means in layers.items()]
        for name, said in CURVES.items()
    }
    there = {said: [one for one in curves if one[2]] for said, curves in every.items()}
    panels = {said: curves for said, curves in there.items() if curves}
    return draw_curves(stem, panels, "relative depth among the bank's layers")


def _curve(label: str, values: pd.Series) -> Curve:
    layers = values.index.to_numpy()
    depth = (layers - layers[:1]) / max(1, np.ptp(layers)) if len(layers) else layers
    return label, depth.tolist(), values.tolist()


def place_on_front(bank: BankRecord) -> tuple[float | None, float | None]:
    """Give a bank's active latents and explained variance, means over hook points."""
    return bank.mean("l0"), bank.mean("explained_variance")


def draw_pareto(stem: Path, banks: Sequence[BankRecord]) -> Path:
    """Draw explained variance over L0 of banks that have both.

    A front of the best is of banks of the same hook points of one model: others cannot be compared.
    """
    alike: dict[str, list[tuple[float, float, str]]] = {}
    for bank in banks:
        l0, explained = place_on_front(bank)
        if l0 is not None and explained is not None:
            where = f"{bank.model}, {bank.hooks[0]['hook']} to {bank.hooks[-1]['hook']}"
            alike.setdefault(where, []).append((l0, explained, bank.name))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 4.0), layout="constrained")
        axes = figure.add_subplot()
        for color, (where, places) in zip(cycle(CURVE_COLORS), alike.items(), strict=False):
            best = [
                (l0, explained)
                for l0, explained, _ in sorted(places)
                if all(other <= explained or cost > l0 for cost, other, _ in places)
            ]
            axes.plot(*zip(*best, strict=True), color=color, lw=1, ls="--", label=where)
            says = readout(*(f"{name}: L0 {l0:.3g}, explained {y:.3f}" for l0, y, name in places))
            dots = [one[0] for one in places], [one[1] for one in places]
            axes.plot(*dots, "o", color=color, ms=5, gid=says)
        axes.margins(x=0.12, y=0.14)
        middle = sum(axes.get_xlim()) / 2
        for l0, explained, name in (one for places in alike.values() for one in places):
            # a front only rises: below it on its left, above it on its right nothing is crossed
            side, away = ("left", (5, -10)) if l0 < middle else ("right", (-5, 5))
            axes.annotate(
                name, (l0, explained), away, textcoords="offset points", fontsize=6.5, ha=side
            )
        axes.set(xlabel="L0: active latents per token", ylabel="explained variance, held out")
        figure.legend(fontsize=7, frameon=False, loc="outside lower center", ncols=2)
        return save(figure, stem)


def draw_detection(stem: Path, found: Sequence[EvaluationRecord], detectors: Sequence[str]) -> Path:
    """Draw every chosen detector's AUROC on all answers, a colour per evaluation."""
    rows = [
        (f"{detector}, {one.name}", one.name, area)
        for detector in detectors
        for one in found
        if (area := auroc(one.evaluation, detector)) is not None
    ]
    return draw_intervals(stem, "All answers", rows)
