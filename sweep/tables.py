"""Tables of many runs: of themselves, of their SAE banks, and of how well they detect."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf, isinf
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from ghosttrack.analysis.evaluations import EvaluationRecord, auroc
from ghosttrack.analysis.runs import BankRecord, RunRecord, common_overrides
from ghosttrack.errors import DataError
from ghosttrack.evaluation.result import ALL, CONFIDENT, Row
from ghosttrack.report.sheet import Cell, sheet_of
from ghosttrack.report.tables import Estimate
from ghosttrack.sae.hooks import FVU_BANDS, place_of

RUN = ("model", "run", "program", "status", "seconds", "overrides")
SHAPE = ("architecture", "d_sae", "k", "expansion", "hooks")
SAE_METRICS = ("explained_variance", "fvu", "dead_frac", "l0", "mse", "ce_recovered", "kl")
ANSWERS = ("answers", "groups", "hallucinated_frac")
PRINTED = (
    *("overrides", "program", "status", "seconds", "d_sae", "k"),
    *("explained_variance", "dead_frac", "l0", "answers"),
)
"""Columns that a terminal has room for, beside the detectors'; the files have all."""
CAUTION = (
    "MSE is in the units of each model's residual stream: compare it within a model, FVU and what "
    "is derived from it between models. AUROC is with its 95 % cluster-bootstrap interval."
)
BANDS = (*FVU_BANDS, "poor")
LIMITS = {"mse": (0.002, 0.005, 0.01), "fvu": tuple(FVU_BANDS.values())}
"""Value below which an SAE is in the first, the second and the third band. Those of MSE are the
earlier studies' and mean something for residual streams of their scale alone; those of FVU hold
for any, the last of them being what the rule of the sweet spot demands."""
METRICS = ("fvu", "explained_variance", "mse", "l0", "dead_frac", "cosine", "ce_recovered", "kl")
TRENDS = ("fvu", "mse", "l0", "dead_frac", "ce_recovered")
LEAST_LAYERS = 4
"""Below so many, halves of a model tell nothing."""


class Target(NamedTuple):
    """What the studies set out to reach: a range with its ends, or one side without its end."""

    quantity: str
    low: float = -inf
    high: float = inf

    def __str__(self) -> str:
        """Spell the bounds."""
        if isinf(self.low):
            return f"< {self.high:g}"
        return f"> {self.low:g}" if isinf(self.high) else f"{self.low:g} to {self.high:g}"

    def holds(self, value: float) -> bool:
        """Tell whether a value is within the bounds."""
        if isinf(self.low) or isinf(self.high):
            return self.low < value < self.high
        return self.low <= value <= self.high

    def status(self, value: float | Estimate | None) -> str:
        """Tell whether it is met; with an interval, whether all of it is.

        >>> target = Target("AUROC", 0.9)
        >>> target.status(Estimate(0.95, 0.92, 0.97)), target.status(Estimate(0.92, 0.88, 0.96))
        ('met', 'met, but not by the whole interval')
        """
        point = value.value if isinstance(value, Estimate) else value
        if point is None or point != point:
            return "not measured"
        if not self.holds(point):
            return "missed"
        ends = value[1:] if isinstance(value, Estimate) else (point, point)
        is_whole = all(end is not None and self.holds(end) for end in ends)
        return "met" if is_whole else "met, but not by the whole interval"


SAE_TARGETS = {
    "l0": Target("L0, mean over hook points", 50, 100),
    "mse": Target("loss (MSE), mean over hook points", high=0.01),
}
AUROC_TARGET, F1_TARGET = Target("AUROC", 0.90), Target("F1", 0.85)


def runs_sheet(
    runs: Sequence[RunRecord], found: Mapping[Path, EvaluationRecord], detectors: Sequence[str]
) -> pd.DataFrame:
    """Put runs together, a row each, with the AUROC of these detectors in their evaluations."""
    places = {
        f"{name} AUROC {subset}": (name, subset)
        for name in detectors
        for subset in (ALL, next(iter(CONFIDENT)))
    }
    columns = (*RUN, *SHAPE, *SAE_METRICS, *ANSWERS, *places)
    rows = []
    for run in runs:
        said = run.model, run.name, run.program, run.status, run.seconds, " ".join(run.overrides)
        cells: dict[str, Cell] = dict(zip(RUN, said, strict=True))
        if bank := run.bank:
            shape = bank.architecture, bank.d_sae, bank.k, bank.expansion, len(bank.hooks)
            cells |= zip(SHAPE, shape, strict=True)
            cells |= {name: bank.mean(name) for name in SAE_METRICS}
        if run.evaluation in found:
            judged = found[run.evaluation].evaluation
            sizes = judged.n_judged, judged.n_groups, judged.hallucinated_frac
            cells |= zip(ANSWERS, sizes, strict=True)
            cells |= {column: auroc(judged, *place) for column, place in places.items()}
        rows.append([cells.get(name) for name in columns])
    return sheet_of(columns, rows)


def brief(sheet: pd.DataFrame, runs: Sequence[RunRecord]) -> pd.DataFrame:
    """Take the columns that a page has room for, and of settings those that not all runs share."""
    common = common_overrides(runs)
    own = [" ".join(one for one in run.overrides if one not in common) for run in runs]
    areas = [name for name in sheet.columns if " AUROC " in name]
    return sheet[[*PRINTED, *areas]].assign(overrides=[said or "(defaults)" for said in own])


def hooks_of(banks: Iterable[BankRecord]) -> pd.DataFrame:
    """Put the hook points of banks together, a row each, with NaN for a metric that one lacks.

    `position` is "any" for a hook point at every position.
    """
    rows = [
        {
            **{"model": bank.model, "bank": bank.name, "layer": place_of(hook["hook"])[0]},
            "position": hook["hook"].partition("_pos_")[2] or "any",
            **{name: hook.get(name) for name in METRICS},
        }
        for bank in banks
        for hook in bank.hooks
    ]
    columns = ["model", "bank", "layer", "position", *METRICS]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(METRICS, float))


def layers_of(bank: BankRecord) -> pd.DataFrame:
    """Average a bank's metrics over the positions of each layer, the index; without NaN."""
    means = hooks_of([bank]).pivot_table(index="layer", values=list(METRICS), aggfunc="mean")
    return means.reindex(columns=list(METRICS))


def models_sheet(banks: Sequence[BankRecord]) -> pd.DataFrame:
    """Compare models: width, sparsity, expansion, and means over hook points.

    Raises:
        DataError: There is no bank.
    """
    if not banks:
        raise DataError("no run there made an SAE bank")
    rows: list[tuple[Cell, ...]] = [
        (
            *(bank.model, bank.name, len(bank.hooks), bank.d_model, bank.d_sae, bank.k),
            *(bank.k / bank.d_sae, bank.expansion),
            *(bank.mean(name) for name in METRICS),
        )
        for bank in banks
    ]
    shape = ("model", "bank", "hooks", "d_model", "d_sae", "k", "k / d_sae", "expansion")
    return sheet_of((*shape, *METRICS), rows)


def statistics_sheet(banks: Iterable[BankRecord]) -> pd.DataFrame:
    """Describe each bank's metrics over its hook points; sd is theirs, no estimate for others."""
    values = hooks_of(banks).set_index(["model", "bank"])[list(METRICS)].stack().dropna()
    values = values.rename_axis(["model", "bank", "metric"])
    grouped = values.groupby(level=["model", "bank", "metric"], sort=False)
    described = grouped.agg(["mean", "median", "min", "max"])
    return described.assign(sd=grouped.std(ddof=0), hooks=grouped.size()).reset_index()


def bands_sheet(banks: Iterable[BankRecord]) -> pd.DataFrame:
    """Count each bank's hook points per band."""
    rows: list[tuple[Cell, ...]] = []
    for bank in banks:
        hooks = hooks_of([bank])
        for name, limits in LIMITS.items():
            bands = np.searchsorted(limits, hooks[name].dropna(), side="right")
            counts = np.bincount(bands, minlength=len(BANDS)).tolist()
            said = "below " + " / ".join(f"{limit:g}" for limit in limits)
            rows.append((bank.model, bank.name, name, said, *counts))
    return sheet_of(("model", "bank", "by", "limits", *BANDS), rows)


def targets_sheet(
    banks: Iterable[BankRecord],
    found: Sequence[EvaluationRecord] = (),
    detectors: Sequence[str] = (),
) -> pd.DataFrame:
    """Hold banks' means, and detectors on all answers, against the studies' targets."""
    reached: list[tuple[str, str, Target, float | Estimate | None]] = [
        (bank.model, bank.name, target, bank.mean(name))
        for bank in banks
        for name, target in SAE_TARGETS.items()
    ]
    for one, row in _chosen(found, detectors):
        f1 = Estimate(row.f1, *row.intervals.get("f1", (None, None)))
        area = Estimate(row.auroc, *row.auroc_ci)
        reached += [
            (one.name, row.detector, AUROC_TARGET, area),
            (one.name, row.detector, F1_TARGET, f1),
        ]
    rows: list[tuple[Cell, ...]] = [
        (
            *(model, of, target.quantity, str(target)),
            Estimate(value, None, None) if isinstance(value, float) else value,
            target.status(value),
        )
        for model, of, target, value in reached
    ]
    return sheet_of(("model", "of", "quantity", "target", "value", "status"), rows)


def trends_sheet(banks: Iterable[BankRecord]) -> pd.DataFrame:
    """Compare the first half of each bank's layers with the last, without an odd one between them.

    A layer counts with the mean over its positions. Kendall's correlation of the metric with depth
    is over layers, p for no correlation: exact where there are few.
    """
    rows: list[tuple[Cell, ...]] = []
    for bank in banks:
        means = layers_of(bank)
        for name in TRENDS if len(means) >= LEAST_LAYERS else ():
            if all(hook.get(name) is not None for hook in bank.hooks):
                rows.append((bank.model, bank.name, name, *_trend(pd.Series(means[name]))))
    columns = ("model", "bank", "metric", "early", "late", "late - early", "Kendall's tau", "p")
    return sheet_of(columns, rows)


def _trend(means: pd.Series) -> tuple[Cell, ...]:
    half = len(means) // 2
    early, late = float(means.iloc[:half].mean()), float(means.iloc[-half:].mean())
    if means.nunique() == 1:
        return early, late, late - early, None, None
    tau, p = np.asarray(kendalltau(means.index, means), dtype=float)
    return early, late, late - early, float(tau), float(p)


def detection_sheet(found: Sequence[EvaluationRecord], detectors: Sequence[str]) -> pd.DataFrame:
    """Give each detector a row in each evaluation."""
    subsets = (ALL, *CONFIDENT)
    rows: list[tuple[Cell, ...]] = []
    for one, row in _chosen(found, detectors):
        areas = [auroc(one.evaluation, row.detector, subset) for subset in subsets]
        size = row.n, row.n_groups, one.evaluation.hallucinated_frac
        rows.append((one.name, row.detector, *size, *areas, row.f1, row.ece, row.forwards))
    areas = [f"AUROC {subset}" for subset in subsets]
    return sheet_of(("evaluation", "detector", *ANSWERS, *areas, "F1", "ECE", "passes"), rows)


def _chosen(
    found: Iterable[EvaluationRecord], detectors: Sequence[str]
) -> Iterator[tuple[EvaluationRecord, Row]]:
    """Go through the rows of some detectors on all answers."""
    for one in found:
        for row in one.evaluation.rows:
            if row.subset == ALL and row.detector in detectors:
                yield one, row
