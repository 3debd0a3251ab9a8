"""Maps of SAE metrics, layer by position or by bank."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ghosttrack.analysis.runs import BankRecord
from ghosttrack.sae.hooks import place_of
from sweep.pictures import Map, draw_heatmaps
from sweep.tables import hooks_of

SHOWN = {
    "mse": ("loss: mean squared error", (0.0, None)),
    "explained_variance": ("explained variance", (None, 1.0)),
    "dead_frac": ("dead fraction", (0.0, None)),
}
"""What each is called, and the ends of its colours that are no value of the map."""


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
    """Draw layers over columns in the order in which the hook points have them."""
    grid = hooks.pivot(index="layer", columns=along, values=list(SHOWN))
    columns = list(hooks[along].unique())
    maps = {
        said: Map(grid.xs(name, axis="columns")[columns].to_numpy(float), *ends)
        for name, (said, ends) in SHOWN.items()
    }
    names = [f"layer {layer}" for layer in grid.index]
    return draw_heatmaps(stem, title, maps, names, columns, along)
