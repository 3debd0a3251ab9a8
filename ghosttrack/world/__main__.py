"""Rebuild the embedded model, or make one of another world.

Examples:
    python -m ghosttrack.world                                     the shipped model, in place
    python -m ghosttrack.world --seed 1 --out worlds/1             another world of the same size
    python -m ghosttrack.world --entities small --out worlds/small
    python -m ghosttrack.world --entities 80,140,260,260 --out worlds/mine
    python detect.py model.path=worlds/1 model.name=world-1
"""

import argparse
import logging
import sys
from pathlib import Path

from ghosttrack.errors import ConfigError, DataError, GhostTrackError
from ghosttrack.world.facts import FOLDER, TIERS, WORLD_FILE, Recipe, WorldSpec
from ghosttrack.world.make import make

log = logging.getLogger(__name__)

PRESETS = {
    "full": {},
    "small": {
        "head": 80,
        "mid": 140,
        "rare": 260,
        "unseen": 260,
        "head_exposure": 80,
        "mid_exposure": 40,
        "n_values": 60,
    },
}
"""Changes to the default world."""


def main(arguments: list[str]) -> None:
    """Read the options and rebuild; a fault in them is one line and exit status 1."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stdout)
    try:
        spec = WorldSpec(seed=options.seed, **_sizes(options.entities))
        rebuild(spec, Recipe(), options.out)
    except GhostTrackError as error:
        sys.exit(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ghosttrack.world",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=0, help="world and model (default 0)")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the model")
    parser.add_argument(
        "--entities", default="full", help="full, small, or head,mid,rare,unseen counts"
    )
    return parser


def _sizes(entities: str) -> dict[str, int]:
    """Read `--entities`.

    Raises:
        ConfigError: neither a preset nor four counts.
    """
    if entities in PRESETS:
        return PRESETS[entities]
    counts = entities.split(",")
    if len(counts) != len(TIERS) or not all(count.isdecimal() for count in counts):
        raise ConfigError(
            f"--entities must be full, small or four counts ({','.join(TIERS)}), got {entities!r}"
        )
    return dict(zip(TIERS, map(int, counts), strict=True))


def rebuild(spec: WorldSpec, recipe: Recipe, folder: Path) -> None:
    """Train a model of a world, save it in a folder, and measure what was saved.

    Raises:
        DataError: the folder holds other files, or cannot be made.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / WORLD_FILE).is_file():
        raise DataError(f"{folder} holds something else; give --out a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be made: {error.strerror}") from error
    make(folder, spec, recipe)
    log.info("model and %s are in %s", WORLD_FILE, folder)


if __name__ == "__main__":
    main(sys.argv[1:])
