"""Models beside one another: detection as a table, metrics over depth and AUROC as pictures."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import pandas as pd

from ghosttrack.analysis.evaluations import EvaluationRecord, auroc
from ghosttrack.analysis.runs import BankRecord
from ghosttrack.evaluation.result import ALL, CONFIDENT
from ghosttrack.report.pictures import Curve, draw_curves, draw_intervals
from ghosttrack.report.sheet import Cell, sheet_of
from ghosttrack.sae.hooks import layer_of

CAUTION = (
    "MSE is in the units of each model's residual stream: compare it within a model, FVU and what "
    "is derived from it between models. AUROC is with its 95 % cluster-bootstrap interval."
)
CURVES = {
    "fvu": "FVU",
    "dead_frac": "dead fraction",
    "ce_recovered": "cross-entropy recovered",
}


def detection_sheet(found: Sequence[EvaluationRecord], detectors: Sequence[str]) -> pd.DataFrame:
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
    return sheet_of(("evaluation", "detector", *sizes, *areas, "F1", "ECE", "passes"), rows)


def draw_depth(stem: Path, banks: Sequence[BankRecord]) -> Path:
    """Draw each bank's metrics over depth, 0 its first layer and 1 its last; positions' means."""
    every = {said: [_curve(bank, name) for bank in banks] for name, said in CURVES.items()}
    there = {said: [one for one in curves if one[2]] for said, curves in every.items()}
    panels = {said: curves for said, curves in there.items() if curves}
    return draw_curves(stem, panels, "relative depth among the bank's layers")


def _curve(bank: BankRecord, name: str) -> Curve:
    by_layer: dict[int, list[float]] = {}
    for hook in bank.hooks:
        if hook.get(name) is not None:
            by_layer.setdefault(layer_of(hook["hook"]), []).append(hook[name])
    layers = sorted(by_layer)
    span = max(1, max(layers, default=0) - min(layers, default=0))
    depth = [(layer - layers[0]) / span for layer in layers]
    return bank.label, depth, [fmean(by_layer[layer]) for layer in layers]


def draw_detection(stem: Path, found: Sequence[EvaluationRecord], detectors: Sequence[str]) -> Path:
    """Draw every chosen detector's AUROC on all answers, a colour per evaluation."""
    rows = [
        (f"{detector}, {one.name}", one.name, area)
        for detector in detectors
        for one in found
        if (area := auroc(one.evaluation, detector)) is not None
    ]
    return draw_intervals(stem, "All answers", rows)
