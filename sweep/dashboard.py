"""Review all runs of a sweep, a model or all models on one self-contained local page.

Examples:
    python -m sweep.dashboard outputs/ghostworld/sweeps/<time>
    python -m sweep.dashboard outputs --detectors output,few --out review.html
"""

import argparse
import sys
import tempfile
from pathlib import Path

from ghosttrack.analysis.evaluations import add_detectors, choose, read_evaluations
from ghosttrack.analysis.runs import find_runs
from ghosttrack.command import make_folder, parser, run, say
from sweep.sections import Review, sections, write_review


def main(arguments: list[str]) -> None:
    """Read the options and write the page."""
    options = parser("sweep.dashboard", __doc__)
    options.add_argument("folder", type=Path, help="of a sweep, a model, or outputs itself")
    options.add_argument("--out", type=Path, help="the page (default: dashboard.html in folder)")
    add_detectors(options)
    run(lambda: _write(options.parse_args(arguments)))


def _write(given: argparse.Namespace) -> None:
    path: Path = given.out or given.folder / "dashboard.html"
    runs = find_runs(given.folder)
    make_folder(path.parent)
    found = read_evaluations(runs)
    review = Review(runs, found, choose(given.detectors, found.values()), path.parent)
    with tempfile.TemporaryDirectory() as pictures:
        found_sections = sections(review, Path(pictures))
        title = given.folder.resolve().name
        write_review(path, title, review.summary(), found_sections)
    say(f"dashboard: {path}")


if __name__ == "__main__":
    main(sys.argv[1:])
