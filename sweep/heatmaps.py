"""Draw loss, explained variance and dead fraction of SAEs as maps of layer x position.

Every bank that holds positions gets a picture of its own. Of banks without positions one picture
shows layer x bank.

Examples:
    python -m sweep.heatmaps outputs/<model>/sweeps/<time>
    python -m sweep.heatmaps outputs/<model> --out pictures
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ghosttrack.analysis.runs import BankRecord, Hook, banks_of, find_runs
from ghosttrack.command import make_folder, parser, run, say
from ghosttrack.errors import DataError
from ghosttrack.sae.hooks import HOOK, place_of
from sweep.views.pictures import Map, draw_heatmaps

SHOWN = {
    "mse": ("loss: mean squared error", (0.0, None)),
    "explained_variance": ("explained variance", (None, 1.0)),
    "dead_frac": ("dead fraction", (0.0, None)),
}
"""What each is called, and the ends of its colours that are no value of the map."""


def main(arguments: list[str]) -> None:
    """Read the options and draw."""
    options = parser("sweep.heatmaps", __doc__)
    options.add_argument("folder", type=Path, help="of a run, a sweep or a model")
    options.add_argument("--out", type=Path, help="folder of the pictures (default: the one read)")
    run(lambda: _draw(options.parse_args(arguments)))


def _draw(given: argparse.Namespace) -> None:
    banks = banks_of(find_runs(given.folder))
    if not banks:
        raise DataError(f"{given.folder}: no run there made an SAE bank")
    for picture in heatmaps(banks, make_folder(given.out or given.folder)):
        say(str(picture))


def heatmaps(banks: Sequence[BankRecord], folder: Path) -> list[Path]:
    """Draw every bank; return the SVG files."""
    with_positions = [bank for bank in banks if _has_positions(bank)]
    paths = [
        _draw_maps(
            folder / f"heatmap-{bank.model}-{bank.name}", bank.label, _by_position(bank), "position"
        )
        for bank in with_positions
    ]
    rest = [bank for bank in banks if bank not in with_positions]
    if rest:
        one_model = len({bank.model for bank in rest}) == 1
        columns = {bank.name if one_model else bank.label: _by_layer(bank) for bank in rest}
        title = rest[0].model if one_model else "all models"
        paths.append(_draw_maps(folder / "heatmap-layers", title, columns, "bank"))
    return paths


Columns = dict[str, dict[int, Hook]]
"""By column's name, then by layer: a hook point's metrics."""


def _has_positions(bank: BankRecord) -> bool:
    return any("_pos_" in hook["hook"] for hook in bank.hooks)


def _by_layer(bank: BankRecord) -> dict[int, Hook]:
    return {place_of(hook["hook"])[0]: hook for hook in bank.hooks}


def _by_position(bank: BankRecord) -> Columns:
    columns: Columns = {}
    for hook in sorted(bank.hooks, key=lambda hook: place_of(hook["hook"])[1]):
        match = HOOK.fullmatch(hook["hook"])
        assert match is not None
        columns.setdefault(match["pos"] or "any", {})[int(match["layer"])] = hook
    return columns


def _draw_maps(stem: Path, title: str, columns: Columns, along: str) -> Path:
    layers = sorted({layer for column in columns.values() for layer in column})
    maps = {
        said: Map(
            np.array(
                [
                    [column.get(layer, {}).get(name, np.nan) for column in columns.values()]
                    for layer in layers
                ],
                dtype=float,
            ),
            *ends,
        )
        for name, (said, ends) in SHOWN.items()
    }
    names = [f"layer {layer}" for layer in layers]
    return draw_heatmaps(stem, title, maps, names, list(columns), along)


if __name__ == "__main__":
    main(sys.argv[1:])
