"""Choose width and sparsity from a grid of SAEs.

The rule: of the shapes with explained variance of at least 0.70 and at most half of the latents
dead, the highest explained variance, then the fewest dead. A shape is on the Pareto front where no
other explains as much with as few dead and as small a k, and is better in one of them.

Examples:
    python -m sweep.sweet_spot outputs/ghostworld/sweeps/<time>
    python -m sweep.sweet_spot grid.csv --out pictures      d_sae,k,explained_variance,dead_frac
"""

import argparse
import sys
from pathlib import Path

from ghosttrack.analysis.runs import banks_of, find_runs
from ghosttrack.command import make_folder, parser, run, say
from ghosttrack.report.sheet import print_sheet
from sweep.pictures import draw_shapes
from sweep.shapes import read_shapes, shapes_of, shapes_sheet, sweet_spot


def main(arguments: list[str]) -> None:
    """Read the options and choose."""
    options = parser("sweep.sweet_spot", __doc__)
    options.add_argument("source", type=Path, help="folder of a sweep, or a CSV file")
    options.add_argument("--out", type=Path, help="folder of the picture (default: beside source)")
    run(lambda: _choose(options.parse_args(arguments)))


def _choose(given: argparse.Namespace) -> None:
    source: Path = given.source
    if source.is_file():
        shapes, beside = read_shapes(source), source.parent
    else:
        shapes, beside = shapes_of(banks_of(find_runs(source))), source
    best = sweet_spot(shapes)
    print_sheet(shapes_sheet(shapes, best))
    stem = make_folder(given.out or beside) / "sweet_spot"
    say(f"picture: {draw_shapes(stem, shapes, best)}")
    say(f"d_sae={best.d_sae} k={best.k}")


if __name__ == "__main__":
    main(sys.argv[1:])
