"""Put models side by side: their SAEs, band by band, and their detection with intervals.

Where two evaluations share answers, their detectors are compared on these, paired.

Examples:
    python -m sweep.compare_models outputs
    python -m sweep.compare_models outputs/gpt2-small outputs/phi-2 --detectors output,few --out out
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
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
from ghosttrack.evaluation.bootstrap import interval, resample
from ghosttrack.evaluation.scores import resampled_auroc
from ghosttrack.report.html import embedded
from ghosttrack.report.sheet import Cell, markdown, print_sheet, sheet_of, spelled, write_sheet
from ghosttrack.report.tables import Estimate
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

NOTES = {
    "detection": "Hallucinated is the positive class; intervals are 95 % cluster bootstraps.",
    "paired": "Of the same detector on the answers that two evaluations share, group by"
    " group resampled: an interval that contains 0 shows nothing.",
}
CAPTIONS = {"models": "Held out, layer by layer", "detection": "AUROC on all answers"}
N_RESAMPLES = 1000
KEYS = ["question", "answer", "category"]
OTHER = " of the other"
LEAST_SHARED = 50
"""Answers that two evaluations must share for their difference to be told."""


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
        "paired": paired_sheet(found, detectors),
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


def paired_sheet(
    found: Sequence[EvaluationRecord], detectors: Sequence[str], seed: int = 0
) -> pd.DataFrame:
    """Compare detectors over the answers that two evaluations share, on the same resamples.

    Answers are the same where question, answer and category are; groups are drawn whole, or
    questions, where an evaluation of before names no groups. One evaluation is compared with
    another by the same detector; different detectors of one evaluation stand in its own report.
    """
    rows: list[tuple[Cell, ...]] = []
    for first, second in combinations(found, 2):
        shared = _distinct(first).join(_distinct(second).add_suffix(OTHER), how="inner")
        wrong = shared["wrong"].to_numpy()
        if len(shared) < LEAST_SHARED or wrong.min() == wrong.max():
            continue
        draws = resample(shared["group"].tolist(), N_RESAMPLES, seed)
        for name in detectors:
            if name not in shared or f"{name}{OTHER}" not in shared:
                continue
            areas = [
                resampled_auroc(wrong, shared[column].to_numpy(float), draws)
                for column in (name, f"{name}{OTHER}")
            ]
            ends = interval(areas[0].drawn - areas[1].drawn)
            delta = Estimate(areas[0].point - areas[1].point, *ends)
            points = (area.point for area in areas)
            rows.append((name, first.name, second.name, len(shared), *points, delta))
    columns = ("detector", "evaluation", "minus", "shared answers", "AUROC", "of the other")
    return sheet_of((*columns, "difference"), rows)


def _distinct(one: EvaluationRecord) -> pd.DataFrame:
    """Take the answers that no other of the evaluation reads like."""
    table = one.table.drop_duplicates(KEYS)
    if "group" not in table:
        table = table.assign(group=table["question"])
    return table.set_index(KEYS)


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
            links if name == "detection" else {},
        )
        for name, sheet in sheets.items()
        if not sheet.empty
    ]


if __name__ == "__main__":
    main(sys.argv[1:])
