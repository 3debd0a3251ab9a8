"""Put models side by side: their SAEs, band by band, and their detection with intervals.

Examples:
    python -m sweep.compare_models outputs
    python -m sweep.compare_models outputs/gpt2-small outputs/phi-2 --detectors output,few --out out
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ghosttrack.evaluation.subsets import ALL, CONFIDENT
from ghosttrack.sae.hooks import place_of
from sweep.collect import choose
from sweep.command import add_detectors, make_folder, parser, run, say
from sweep.findings import Found, auroc, read_evaluations
from sweep.pictures import Curve, draw_curves, draw_intervals
from sweep.quality import (
    bands_sheet,
    models_sheet,
    statistics_sheet,
    targets_sheet,
    trends_sheet,
)
from sweep.runs import BankRecord, banks_of, find_runs
from sweep.sheet import Cell, Estimate, Sheet, markdown, print_sheet, write_sheet

CAUTION = (
    "MSE is in the units of each model's residual stream: compare it within a model, FVU and what "
    "is derived from it between models. AUROC is with its 95 % cluster-bootstrap interval."
)
CURVES = {
    "fvu": "FVU",
    "dead_frac": "dead fraction",
    "ce_recovered": "cross-entropy recovered",
}


def main(arguments: list[str]) -> None:
    """Read the options and compare."""
    options = parser("compare_models", __doc__)
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
        "targets": targets_sheet(banks, _reached(found, detectors)),
        "trends": trends_sheet(banks),
    }
    text = ["# Models side by side\n", f"{CAUTION}\n"]
    for name, sheet in sheets.items():
        if not sheet.rows:
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


def detection_sheet(found: Sequence[Found], detectors: Sequence[str]) -> Sheet:
    """Give each detector a row in each evaluation."""
    subsets = (ALL, *CONFIDENT)
    rows: list[tuple[Cell, ...]] = []
    for one in found:
        judged = one.evaluation
        for row in (row for row in judged.rows if row.subset == ALL and row.detector in detectors):
            areas = [auroc(judged, row.detector, subset) for subset in subsets]
            size = row.n, row.n_groups, judged.hallucinated_frac
            rows.append((one.name, row.detector, *size, *areas, row.f1, row.ece, row.forwards))
    sizes = ("answers", "groups", "hallucinated_frac")
    areas = [f"AUROC {subset}" for subset in subsets]
    return Sheet(("evaluation", "detector", *sizes, *areas, "F1", "ECE", "passes"), rows)


def _reached(
    found: Sequence[Found], detectors: Sequence[str]
) -> list[tuple[str, str, Estimate, Estimate]]:
    return [
        (
            *(one.name, row.detector, Estimate(row.auroc, *row.auroc_ci)),
            Estimate(row.f1, *row.intervals.get("f1", (None, None))),
        )
        for one in found
        for row in one.evaluation.rows
        if row.subset == ALL and row.detector in detectors
    ]


def draw_depth(stem: Path, banks: Sequence[BankRecord]) -> Path:
    """Draw each bank's metrics over depth, 0 the first layer of the bank and 1 its last."""
    panels = {said: [_curve(bank, name) for bank in banks] for name, said in CURVES.items()}
    there = {said: [one for one in curves if one[2]] for said, curves in panels.items()}
    return draw_curves(stem, {said: one for said, one in there.items() if one}, "relative depth")


def _curve(bank: BankRecord, name: str) -> Curve:
    hooks = [hook for hook in bank.hooks if hook.get(name) is not None]
    layers = [place_of(hook["hook"])[0] for hook in hooks]
    span = max(1, max(layers, default=0) - min(layers, default=0))
    depth = [(layer - layers[0]) / span for layer in layers]
    return bank.label, depth, [hook[name] for hook in hooks]


def draw_detection(stem: Path, found: Sequence[Found], detectors: Sequence[str]) -> Path:
    """Draw every chosen detector's AUROC on all answers, a colour per evaluation."""
    rows = [
        (f"{detector}, {one.name}", one.name, area)
        for detector in detectors
        for one in found
        if (area := auroc(one.evaluation, detector)) is not None
    ]
    return draw_intervals(stem, "All answers", rows)


if __name__ == "__main__":
    main(sys.argv[1:])
