"""Collect every run below a folder into one table: runs.csv, runs.parquet and runs.md.

Metrics of SAEs are means over hook points; AUROC is with its 95 % cluster-bootstrap interval, on
all answers and on those that the model gave more than 0.5. Where runs differ by the bank's seed
alone, banks.csv, .parquet and .md hold the paired differences over banks.

Examples:
    python -m sweep.collect outputs/ghostworld/sweeps/<time>
    python -m sweep.collect outputs --detectors tracks,tracks+output --out tables
"""

import argparse
import sys
from pathlib import Path

from ghosttrack.analysis.evaluations import add_detectors, choose, read_evaluations
from ghosttrack.analysis.runs import common_overrides, find_runs
from ghosttrack.command import make_folder, parser, run, say
from ghosttrack.report.sheet import print_sheet, write_sheet
from sweep.banks import bank_groups, banks_sheet, claims
from sweep.tables import brief, runs_sheet


def main(arguments: list[str]) -> None:
    """Read the options and collect."""
    options = parser("sweep.collect", __doc__)
    options.add_argument("folder", type=Path, help="of a run, a sweep, a model, or outputs itself")
    options.add_argument("--out", type=Path, help="folder of the files (default: the one read)")
    add_detectors(options)
    run(lambda: _collect(options.parse_args(arguments)))


def _collect(given: argparse.Namespace) -> None:
    runs = find_runs(given.folder)
    found = read_evaluations(runs)
    sheet = runs_sheet(runs, found, choose(given.detectors, found.values()))
    files = write_sheet(make_folder(given.out or given.folder) / "runs", sheet)
    common = common_overrides(runs)
    if common:
        say(f"all runs: {' '.join(common)}")
    print_sheet(brief(sheet, runs))
    groups = bank_groups(runs, found)
    if groups:
        differences = banks_sheet(groups)
        files += write_sheet(files[0].with_name("banks"), differences)
        print_sheet(differences)
        for said in claims(groups):
            say(said)
    failed = sum(one.status != "done" for one in runs)
    say(f"{len(runs)} runs, {failed} of them not done: {', '.join(map(str, files))}")


if __name__ == "__main__":
    main(sys.argv[1:])
