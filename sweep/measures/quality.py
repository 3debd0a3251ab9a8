"""How good SAEs are: bands, statistics over layers, targets, and trends over depth."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import inf, isinf
from statistics import fmean, median, pstdev
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from ghosttrack.analysis.runs import BankRecord
from ghosttrack.errors import DataError
from ghosttrack.report.sheet import Cell, sheet_of
from ghosttrack.report.tables import Estimate
from ghosttrack.sae.hooks import place_of

BANDS = ("excellent", "good", "fair", "poor")
LIMITS = {"mse": (0.002, 0.005, 0.01), "fvu": (0.05, 0.10, 0.30)}
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


def band(value: float, limits: Sequence[float]) -> str:
    """Name a value's band.

    >>> band(0.0019, LIMITS["mse"]), band(0.002, LIMITS["mse"]), band(0.5, LIMITS["fvu"])
    ('excellent', 'good', 'poor')
    """
    return BANDS[sum(value >= limit for limit in limits)]


def statistics_sheet(banks: Iterable[BankRecord]) -> pd.DataFrame:
    """Describe each bank's metrics over its hook points; sd is theirs, no estimate for others."""
    rows: list[tuple[Cell, ...]] = []
    for bank in banks:
        for name in METRICS:
            values = _values(bank, name)
            if values:
                spread = pstdev(values)
                whole = fmean(values), median(values), min(values), max(values), spread
                rows.append((bank.model, bank.name, name, *whole, len(values)))
    return sheet_of(
        ("model", "bank", "metric", "mean", "median", "min", "max", "sd", "hooks"), rows
    )


def bands_sheet(banks: Iterable[BankRecord]) -> pd.DataFrame:
    """Count each bank's hook points per band."""
    rows: list[tuple[Cell, ...]] = []
    for bank in banks:
        for name, limits in LIMITS.items():
            bands = [band(value, limits) for value in _values(bank, name)]
            said = "below " + " / ".join(f"{limit:g}" for limit in limits)
            rows.append((bank.model, bank.name, name, said, *map(bands.count, BANDS)))
    return sheet_of(("model", "bank", "by", "limits", *BANDS), rows)


def targets_sheet(
    banks: Iterable[BankRecord], detection: Iterable[tuple[str, str, Estimate, Estimate]]
) -> pd.DataFrame:
    """Hold banks and detectors against the studies' targets.

    Args:
        banks: Their means over hook points.
        detection: Model, detector, AUROC and F1 on all answers.
    """
    rows: list[tuple[Cell, ...]] = []
    for bank in banks:
        for name, target in SAE_TARGETS.items():
            value = bank.mean(name)
            cell = None if value is None else Estimate(value, None, None)
            rows.append(
                (bank.model, bank.name, target.quantity, str(target), cell, target.status(value))
            )
    for model, detector, auroc, f1 in detection:
        for target, value in ((AUROC_TARGET, auroc), (F1_TARGET, f1)):
            rows.append(
                (model, detector, target.quantity, str(target), value, target.status(value))
            )
    return sheet_of(("model", "of", "quantity", "target", "value", "status"), rows)


def trends_sheet(banks: Iterable[BankRecord]) -> pd.DataFrame:
    """Compare the first half of each bank's layers with the last, without an odd one between them.

    A layer counts with the mean over its positions. Kendall's correlation of the metric with depth
    is over layers, p for no correlation: exact where there are few.
    """
    rows: list[tuple[Cell, ...]] = []
    for bank in banks:
        for name in TRENDS:
            values, layers = _values(bank, name), [place_of(hook["hook"])[0] for hook in bank.hooks]
            if len(values) < len(layers) or len(set(layers)) < LEAST_LAYERS:
                continue
            rows.append((bank.model, bank.name, name, *_trend(values, layers)))
    return sheet_of(
        ("model", "bank", "metric", "early", "late", "late - early", "Kendall's tau", "p"), rows
    )


def _trend(values: Sequence[float], layers: Sequence[int]) -> tuple[Cell, ...]:
    by_layer: dict[int, list[float]] = {}
    for layer, value in zip(layers, values, strict=True):
        by_layer.setdefault(layer, []).append(value)
    order = sorted(by_layer)
    means = [fmean(by_layer[layer]) for layer in order]
    half = len(order) // 2
    early, late = fmean(means[:half]), fmean(means[-half:])
    if all(a == b for a, b in pairwise(means)):
        return early, late, late - early, None, None
    tau, p = np.asarray(kendalltau(order, means), dtype=float)
    return early, late, late - early, float(tau), float(p)


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


def _values(bank: BankRecord, name: str) -> list[float]:
    return [float(hook[name]) for hook in bank.hooks if hook.get(name) is not None]
