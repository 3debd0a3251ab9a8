"""Rebuild the embedded model, or make one of another world.

Examples:
    python -m ghosttrack.world                                     the shipped model, in place
    python -m ghosttrack.world --seed 1 --out worlds/1             another world of the same size
    python -m ghosttrack.world --entities small --out worlds/small
    python -m ghosttrack.world --entities 80,140,260,260 --out worlds/mine
    python detect.py model.path=worlds/1 model.name=world-1
"""

import logging
import sys
from pathlib import Path

from ghosttrack.command import make_folder, parser, run, seed
from ghosttrack.errors import ConfigError, DataError
from ghosttrack.world.facts import FOLDER, TIERS, WORLD_FILE, Recipe, WorldSpec
from ghosttrack.world.measure import make_measured

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
    options = parser("ghosttrack.world", __doc__)
    options.add_argument("--seed", type=seed, default=0, help="world and model (default 0)")
    options.add_argument("--out", type=Path, default=FOLDER, help="folder of the model")
    options.add_argument(
        "--entities", default="full", help="full, small, or head,mid,rare,unseen counts"
    )
    given = options.parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stdout)
    run(lambda: rebuild(WorldSpec(seed=given.seed, **_sizes(given.entities)), Recipe(), given.out))


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
    make_measured(make_folder(folder), spec, recipe)
    log.info("model and %s are in %s", WORLD_FILE, folder)


if __name__ == "__main__":
    main(sys.argv[1:])
