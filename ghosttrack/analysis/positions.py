"""Test whether SAEs at odd positions differ from those at even ones, metric by metric.

The position is the unit: its mean over layers counts, which pairs the layers; they depend on one
another, so more of them are no further evidence. p is of a permutation test to both sides over
which positions are called odd, and q adjusts it for all tests of the table (Benjamini, Hochberg).
Explained variance, what FVU leaves, is no test of its own, nor what is equal at all positions.

Examples:
    python -m ghosttrack.analysis positions outputs/gpt2-small
    python -m ghosttrack.analysis positions outputs --out positions
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from ghosttrack.analysis.runs import BankRecord, banks_of, find_runs
from ghosttrack.analysis.significance import LEVEL, ROUNDING, Shift, adjusted, shift
from ghosttrack.command import make_folder, parser, run, say, seed
from ghosttrack.errors import DataError
from ghosttrack.report.pictures import draw_positions
from ghosttrack.report.sheet import Cell, print_sheet, sheet_of, write_sheet
from ghosttrack.sae.hooks import place_of

METRICS = ("mse", "fvu", "dead_frac", "l0")


class Grid(NamedTuple):
    """A metric at every position of some layers."""

    layers: list[int]
    positions: Int[np.ndarray, " position"]
    values: Float[np.ndarray, "layer position"]

    @property
    def is_odd(self) -> Bool[np.ndarray, " position"]:
        """Tell odd positions, by their numbers."""
        return self.positions % 2 == 1

    @property
    def varies(self) -> bool:
        """Whether positions differ in any layer, as L0 of `topk` does not."""
        return not np.allclose(self.values, self.values[:, :1], rtol=ROUNDING, atol=0)

    @property
    def can_be_tested(self) -> bool:
        """Whether there is something to be found, at odd and at even positions."""
        return self.varies and bool(0 < self.is_odd.mean() < 1)


class Tested(NamedTuple):
    """One metric of one bank."""

    bank: BankRecord
    metric: str
    grid: Grid
    shift: Shift


def main(arguments: list[str]) -> None:
    """Read the options and compare."""
    options = parser("ghosttrack.analysis positions", __doc__)
    options.add_argument("folder", type=Path, help="of a run, a sweep or a model")
    options.add_argument("--out", type=Path, default=Path("positions"))
    options.add_argument("--seed", type=seed, default=0, help="of permutations")
    run(lambda: _compare(options.parse_args(arguments)))


def _compare(given: argparse.Namespace) -> None:
    tests = list(compare(banks_of(find_runs(given.folder)), given.seed))
    if not tests:
        raise DataError(
            f"{given.folder}: no bank there has SAEs, not all alike, at odd and at even positions"
            " (layer_<l>_pos_<p>); `python train.py experiment=layers_x_positions"
            " corpus.path=<file>` trains one on activations with an axis of positions"
        )
    sheet, folder = positions_sheet(tests), make_folder(given.out)
    files = write_sheet(folder / "positions", sheet)
    for label in dict.fromkeys(one.bank.label for one in tests):
        own = [one for one in tests if one.bank.label == label]
        panels = {one.metric: (one.grid.positions, one.grid.values) for one in own}
        stem = folder / f"positions-{label.replace(' ', '-')}"
        files.append(draw_positions(stem, label, panels))
    print_sheet(sheet)
    for line in dict.fromkeys(_limit(one, len(tests)) for one in tests):
        say(line)
    say(f"{files[0]}, {files[-1]}")


def compare(banks: Iterable[BankRecord], seed: int) -> Iterator[Tested]:
    """Test every metric that varies of every bank that has it at odd and at even positions."""
    for bank in banks:
        for metric in METRICS:
            grid = grid_of(bank, metric)
            if grid is not None and grid.can_be_tested:
                means = grid.values.mean(0)
                yield Tested(bank, metric, grid, shift(means, grid.is_odd, seed))


def grid_of(bank: BankRecord, metric: str) -> Grid | None:
    """Take a metric of the layers that have it at every position; None where no layer does."""
    known = {
        place_of(hook["hook"]): float(hook[metric])
        for hook in bank.hooks
        if "_pos_" in hook["hook"] and hook.get(metric) is not None
    }
    positions = sorted({position for _, position in known})
    layers = [
        layer
        for layer in sorted({layer for layer, _ in known})
        if all((layer, position) in known for position in positions)
    ]
    if not layers:
        return None
    values = [[known[layer, position] for position in positions] for layer in layers]
    return Grid(layers, np.array(positions), np.array(values))


def positions_sheet(tests: Sequence[Tested]) -> pd.DataFrame:
    """Put tests together, a row each."""
    q = adjusted(np.array([one.shift.p for one in tests]), len(tests)).tolist()
    rows: list[tuple[Cell, ...]] = []
    for (bank, metric, grid, found), own in zip(tests, q, strict=True):
        sides = grid.is_odd, ~grid.is_odd
        numbers = [", ".join(map(str, grid.positions[side])) for side in sides]
        means = [float(grid.values[:, side].mean()) for side in sides]
        who = bank.model, bank.name, metric, len(grid.layers)
        verdict = _verdict(own, found.smallest * len(tests))
        rows.append((*who, *numbers, *means, *found, own, verdict))
    who = ("model", "bank", "metric", "layers", "odd positions", "even positions")
    tests_said = ("odd - even", "p", "smallest p", "q", "verdict")
    return sheet_of((*who, "odd", "even", *tests_said), rows)


def _verdict(q: float, alone: float) -> str:
    """Judge a test by its q, and by the smallest q that a single difference can reach."""
    if q <= LEVEL:
        return "differs"
    return "too few positions" if alone > LEVEL else "no difference shown"


def _limit(one: Tested, n_tests: int) -> str:
    """Say what so many positions can show among so many tests."""
    n, smallest = len(one.grid.positions), one.shift.smallest
    alone = min(1.0, smallest * n_tests)
    said = (
        f"with {n} positions p is at least {smallest:.2g}; q of a single difference among {n_tests}"
        f" tests is at least {alone:.2g}"
    )
    if smallest > LEVEL:
        return f"{said}: nothing can be shown of them at {LEVEL:g}, whatever the values"
    if alone > LEVEL:
        return f"{said}: only several at once can be shown at {LEVEL:g}"
    return f"{said}: it can be shown at {LEVEL:g}"
