"""Draw loss, explained variance and dead fraction of SAEs as maps of layer x position.

Every bank that holds positions gets a picture of its own. Of banks without positions one picture
shows layer x bank.

Examples:
    python -m sweep.heatmaps outputs/<model>/sweeps/<time>
    python -m sweep.heatmaps outputs/<model> --out pictures
"""

import argparse
import sys
from pathlib import Path

from ghosttrack.analysis.runs import banks_of, find_runs
from ghosttrack.command import make_folder, parser, run, say
from ghosttrack.errors import DataError
from sweep.pictures import heatmaps


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


if __name__ == "__main__":
    main(sys.argv[1:])
