"""How long the latents of a bank go on over layers, by mutually nearest decoder directions.

A latent goes on where it and a latent of the next hook point are each other's nearest and their
cosine is above what random directions reach in 99 of 100 latents. The next hook point is that of
the next layer that the bank has, at the same position; numbers are means over positions.

Examples:
    python -m ghosttrack.analysis persistence outputs/ghostworld
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from ghosttrack.analysis.runs import newest
from ghosttrack.command import make_folder, parser, run, say, seed
from ghosttrack.errors import DataError
from ghosttrack.report.pictures import draw_curves
from ghosttrack.report.sheet import Cell, print_sheet, sheet_of, write_sheet
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.formats import read_saes
from ghosttrack.sae.hooks import layer_of

CHANCE = 0.99


def main(arguments: list[str]) -> None:
    """Read the options and measure."""
    options = parser("ghosttrack.analysis persistence", __doc__)
    options.add_argument("bank", type=Path, help="folder of an SAE bank, or of a model")
    options.add_argument("--out", type=Path, default=Path("persistence"))
    options.add_argument("--seed", type=seed, default=0, help="of the random directions")
    run(lambda: _measure(options.parse_args(arguments)))


def _measure(given: argparse.Namespace) -> None:
    bank = Bank.of(read_saes(newest(given.bank, "saes")))
    generator = np.random.default_rng(given.seed)
    steps = [
        step
        for layers, chains in chains_of(bank.hooks).items()
        for step in follow(layers, [bank.directions[chain].numpy() for chain in chains], generator)
    ]
    if not steps:
        raise DataError(f"{given.bank}: no position has two layers, which persistence needs")
    sheet, folder = persistence_sheet(steps), make_folder(given.out)
    files = write_sheet(folder / "persistence", sheet)
    curves = [
        (f"layer {one.start}", [float(n) for n in range(len(one.left) + 1)], [1.0, *one.left])
        for one in steps
    ]
    panel = {"share of latents that still go on": curves}
    files.append(draw_curves(folder / "persistence", panel, "hook points later, at a position"))
    print_sheet(sheet)
    say(f"{files[0]}, {files[-1]}")


def chains_of(hooks: Sequence[str]) -> dict[tuple[int, ...], list[list[int]]]:
    """Give the places of hook points that follow on one another, a list per position, by layers.

    >>> chains_of(["layer_0_pos_1", "layer_0_pos_2", "layer_3_pos_1", "layer_3_pos_2"])
    {(0, 3): [[0, 2], [1, 3]]}
    """
    by_position: dict[str, list[int]] = {}
    for place in sorted(range(len(hooks)), key=lambda place: layer_of(hooks[place])):
        by_position.setdefault(hooks[place].partition("_pos_")[2], []).append(place)
    chains: dict[tuple[int, ...], list[list[int]]] = {}
    for places in by_position.values():
        layers = tuple(layer_of(hooks[place]) for place in places)
        chains.setdefault(layers, []).append(places)
    return chains


class LayerStep(NamedTuple):
    """From a layer to the next; means over positions that have the same layers."""

    start: int
    end: int
    positions: int
    floor: float
    """Cosine that chance reaches."""
    left: list[float]
    """Share that still goes on after 1, 2, ... hook points."""


def follow(
    layers: Sequence[int],
    chains: Sequence[Float[np.ndarray, "layer d_sae d_model"]],
    generator: np.random.Generator,
) -> list[LayerStep]:
    """Follow latents from each layer on, at each position by itself."""
    floors = np.array([[chance(one, generator) for one in chain[1:]] for chain in chains])
    left = [
        survival(list(map(following, chain, chain[1:], own)))
        for chain, own in zip(chains, floors, strict=True)
    ]
    means = [np.mean(shares, axis=0).tolist() for shares in zip(*left, strict=True)]
    along = zip(layers, layers[1:], floors.mean(0).tolist(), means, strict=False)
    return [
        LayerStep(start, end, len(chains), floor, shares) for start, end, floor, shares in along
    ]


def persistence_sheet(steps: Sequence[LayerStep]) -> pd.DataFrame:
    """Put steps together, a row each."""
    longest = max(len(one.left) for one in steps)
    rows: list[tuple[Cell, ...]] = [
        (
            *(f"layer_{one.start}", f"layer_{one.end}", one.positions, one.floor, one.left[0]),
            *(float(np.sum(one.left)), *one.left, *[None] * (longest - len(one.left))),
        )
        for one in steps
    ]
    later = tuple(f"after {n}" for n in range(1, longest + 1))
    which = ("from", "to", "positions", "chance cosine", "goes on", "mean hook points more")
    return sheet_of((*which, *later), rows)


def chance(directions: Float[np.ndarray, "d_sae d_model"], generator: np.random.Generator) -> float:
    """Find the largest cosine that a random direction reaches with any latent, at `CHANCE`."""
    random = generator.standard_normal(directions.shape)
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    return float(np.quantile((random @ directions.T).max(1), CHANCE))


def following(
    upper: Float[np.ndarray, "d_sae d_model"],
    deeper: Float[np.ndarray, "d_sae d_model"],
    floor: float,
) -> Int[np.ndarray, " d_sae"]:
    """Name the latent that each latent goes on in; -1 where none."""
    cosines = upper @ deeper.T
    nearest, back = cosines.argmax(1), cosines.argmax(0)
    at = np.arange(len(upper))
    return np.where((back[nearest] == at) & (cosines.max(1) > floor), nearest, -1)


def survival(nexts: list[Int[np.ndarray, " d_sae"]]) -> list[list[float]]:
    """Follow each hook point's latents: per start, the share left after 1, 2, ... of them.

    >>> survival([np.array([1, 0]), np.array([-1, 0])])
    [[1.0, 0.5], [0.5]]
    """
    shares = []
    for start in range(len(nexts)):
        alive, row = np.arange(len(nexts[start])), []
        for step in nexts[start:]:
            alive = step[alive]
            alive = alive[alive >= 0]
            row.append(len(alive) / len(nexts[start]))
        shares.append(row)
    return shares
