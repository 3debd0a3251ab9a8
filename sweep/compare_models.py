"""Put models side by side: their SAEs, band by band, and their detection with intervals.

Examples:
    python -m sweep.compare_models outputs
    python -m sweep.compare_models outputs/gpt2-small outputs/phi-2 --detectors output,few --out out
"""

import argparse
import sys
from pathlib import Path

from ghosttrack.analysis.evaluations import add_detectors, choose, read_evaluations
from ghosttrack.analysis.runs import banks_of, find_runs
from ghosttrack.command import make_folder, parser, run, say
from ghosttrack.report.sheet import markdown, print_sheet, write_sheet
from sweep.pictures import draw_depth, draw_detection
from sweep.tables import (
    CAUTION,
    bands_sheet,
    detection_sheet,
    models_sheet,
    statistics_sheet,
    targets_sheet,
    trends_sheet,
)


def main(arguments: list[str]) -> None:
    """Read the options and compare."""
    options = parser("sweep.compare_models", __doc__)
    options.add_argument("folders", type=Path, nargs="+", help="of models, sweeps or runs")
    options.add_argument("--out", type=Path, help="default: comparison/ in the first folder")
    add_detectors(options)
    run(lambda: _compare(options.parse_args(arguments)))


def _compare(given: argparse.Namespace) -> None:
    runs = [one for folder in given.folders for one in find_runs(folder)]
    banks = banks_of(runs)
    found = list(read_evaluations(runs).values())
    detectors = choose(given.detectors, found)
    folder = make_folder(given.out or given.folders[0] / "comparison")
    sheets = {
        "models": models_sheet(banks),
        "detection": detection_sheet(found, detectors),
        "layers": statistics_sheet(banks),
        "bands": bands_sheet(banks),
        "targets": targets_sheet(banks, found, detectors),
        "trends": trends_sheet(banks),
    }
    text = ["# Models side by side\n", f"{CAUTION}\n"]
    for name, sheet in sheets.items():
        if sheet.empty:
            continue
        write_sheet(folder / name, sheet)
        text += [f"## {name.capitalize()}\n", markdown(sheet)]
        say(f"\n{name}")
        print_sheet(sheet)
    (folder / "comparison.md").write_text("\n".join(text), encoding="utf-8")
    pictures = [draw_depth(folder / "depth", banks)]
    if found and detectors:
        pictures.append(draw_detection(folder / "auroc", found, detectors))
    say(f"\n{folder / 'comparison.md'}, tables beside it, {', '.join(map(str, pictures))}")


if __name__ == "__main__":
    main(sys.argv[1:])
