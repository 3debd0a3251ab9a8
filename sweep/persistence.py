"""How long the latents of a bank go on over layers, by mutually nearest decoder directions.

A latent goes on where it and a latent of the next layer are each other's nearest and their cosine
is above what random directions reach in 99 of 100 latents.

Examples:
    python -m sweep.persistence outputs/ghostworld/saes/topk-512-16-<id>
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from ghosttrack.artifacts import read
from ghosttrack.errors import DataError
from ghosttrack.sae.bank import Bank
from sweep.command import at_least, make_folder, parser, run, say
from sweep.sheet import Cell, Sheet, print_sheet, write_sheet
from sweep.views.pictures import draw_curves

CHANCE = 0.99
Directions = list[Float[np.ndarray, "d_sae d_model"]]


def main(arguments: list[str]) -> None:
    """Read the options and measure."""
    options = parser("persistence", __doc__)
    options.add_argument("bank", type=Path, help="folder of an SAE bank")
    options.add_argument("--out", type=Path, default=Path("persistence"))
    options.add_argument("--seed", type=at_least(0), default=0, help="of the random directions")
    run(lambda: _measure(options.parse_args(arguments)))


def _measure(given: argparse.Namespace) -> None:
    bank = Bank.load(read(given.bank, "saes").path)
    if len(bank.hooks) < 2:
        raise DataError(f"{given.bank}: one hook point; persistence needs two layers at least")
    directions = list(bank.directions.numpy())
    generator = np.random.default_rng(given.seed)
    floors = [chance(one, generator) for one in directions[1:]]
    nexts = [
        following(a, b, floor)
        for a, b, floor in zip(directions, directions[1:], floors, strict=False)
    ]
    left = survival(nexts)
    rows: list[tuple[Cell, ...]] = []
    for at, hook in enumerate(bank.hooks[:-1]):
        known, shares = nexts[at] >= 0, left[at]
        lasting = float(np.sum(shares))
        rows.append((hook, floors[at], float(known.mean()), lasting, *_padded(shares, len(left))))
    later = tuple(f"after {n}" for n in range(1, len(left) + 1))
    sheet = Sheet(("from", "chance cosine", "goes on", "mean layers more", *later), rows)
    folder = make_folder(given.out)
    files = write_sheet(folder / "persistence", sheet)
    curves = [
        (hook, [float(n) for n in range(len(shares) + 1)], [1.0, *shares])
        for hook, shares in zip(bank.hooks, left, strict=False)
    ]
    panel = {"share of latents that still go on": curves}
    files.append(draw_curves(folder / "persistence", panel, "layers later"))
    print_sheet(sheet)
    say(f"{files[0]}, {files[-1]}")


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
    """Follow each layer's latents: per start, the share that is left after 1, 2, ... layers.

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


def _padded(shares: list[float], n: int) -> list[float | None]:
    return [*shares, *[None] * (n - len(shares))]


if __name__ == "__main__":
    main(sys.argv[1:])
