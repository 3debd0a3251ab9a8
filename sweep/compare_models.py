"""Put models side by side: their SAEs, band by band, and their detection with intervals.

Where two evaluations share answers, their detectors are compared on these, paired.

Examples:
    python -m sweep.compare_models outputs
    python -m sweep.compare_models outputs/gpt2-small outputs/phi-2 --detectors output,few --out out
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ghosttrack.analysis.evaluations import (
    EvaluationRecord,
    add_detectors,
    choose,
    read_evaluations,
)
from ghosttrack.analysis.runs import banks_of, find_runs
from ghosttrack.command import make_folder, parser, run, say
from ghosttrack.report.html import embedded
from ghosttrack.report.sheet import markdown, print_sheet, sheet_of, spelled, write_sheet
from sweep.paired import paired_sheet
from sweep.pictures import draw_depth, draw_detection
from sweep.sections import PagePicture, Section, report_links, write_review
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
    by_folder = read_evaluations(runs)
    found = list(by_folder.values())
    detectors = choose(given.detectors, found)
    folder = make_folder(given.out or given.folders[0] / "comparison")
    sheets = {
        "detection": detection_sheet(found, detectors),
        "paired": paired_sheet(by_folder, detectors),
        "models": models_sheet(banks) if banks or not found else sheet_of((), ()),
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
    pictures = {"models": draw_depth(folder / "depth", banks)} if banks else {}
    if found and detectors:
        pictures["detection"] = draw_detection(folder / "auroc", found, detectors)
    page = folder / "comparison.html"
    write_review(page, "comparison", [CAUTION], _sections(by_folder, sheets, pictures, folder))
    said = ", ".join(map(str, pictures.values()))
    say(f"\n{page}, {folder / 'comparison.md'}, tables beside them, {said}")


NOTES = {
    "detection": "Hallucinated is the positive class; intervals are 95 % cluster bootstraps.",
    "paired": "Of the same detector on the answers that two evaluations share, group by"
    " group resampled: an interval that contains 0 shows nothing.",
}
CAPTIONS = {"models": "Held out, layer by layer", "detection": "AUROC on all answers"}


def _sections(
    found: Mapping[Path, EvaluationRecord],
    sheets: Mapping[str, pd.DataFrame],
    pictures: Mapping[str, Path],
    folder: Path,
) -> list[Section]:
    links = report_links(found, folder)
    return [
        Section(
            name,
            name.capitalize(),
            NOTES.get(name, ""),
            [("", spelled(sheet))],
            [PagePicture(embedded(pictures[name]), CAPTIONS[name], 760)]
            if name in pictures
            else (),
            links if name == "detection" else (),
        )
        for name, sheet in sheets.items()
        if not sheet.empty
    ]


if __name__ == "__main__":
    main(sys.argv[1:])
