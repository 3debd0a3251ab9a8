"""What several banks that differ by their seed alone allow to say: banks are a source of variance.

The paired difference of two detectors is averaged over the seeds of folds, then over banks. Half of
its interval is, in quadrature, half of a bank's own (the answers are the same for every bank) and
the standard error of the mean over banks times Student's t at B - 1 degrees of freedom.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t

from ghosttrack.analysis.evaluations import EvaluationRecord
from ghosttrack.analysis.runs import RunRecord
from ghosttrack.evaluation.bootstrap import LEVEL
from ghosttrack.evaluation.claim import claim
from ghosttrack.evaluation.result import ALL, Evaluation, Interval, Pair
from ghosttrack.report.sheet import sheet_of
from ghosttrack.report.tables import Estimate

SEEDS = ("sae.seed=", "evaluation.seed=")
"""Settings in which runs of one group may differ."""


class OverBanks(NamedTuple):
    """One difference over several banks."""

    pair: Pair
    sd: float
    """Standard deviation over banks."""


class BankGroup(NamedTuple):
    """Evaluations under the same settings but for seeds, by bank."""

    model: str
    settings: str
    banks: Mapping[str, list[Evaluation]]

    def differences(self) -> list[OverBanks]:
        """Combine every difference, on all answers, that all evaluations hold."""
        judged = [one for found in self.banks.values() for one in found]
        pairs = [{(p.a, p.b): p for p in one.paired if p.subset == ALL} for one in judged]
        common = [names for names in pairs[0] if all(names in one for one in pairs)]
        return [over_banks([self._of(bank, names) for bank in self.banks]) for names in common]

    def _of(self, bank: str, names: tuple[str, str]) -> list[Pair]:
        found = (one.pair(*names) for one in self.banks[bank])
        return [pair for pair in found if pair is not None]


def bank_groups(
    runs: Sequence[RunRecord], found: Mapping[Path, EvaluationRecord]
) -> list[BankGroup]:
    """Group runs that differ by seeds alone; those of a single bank say nothing of banks."""
    groups: dict[tuple[str, str], dict[str, dict[Path, Evaluation]]] = defaultdict(dict)
    for run in runs:
        folder = run.evaluation
        if run.bank is not None and folder is not None and folder in found:
            settings = " ".join(one for one in run.overrides if not one.startswith(SEEDS))
            held = groups[run.model, settings].setdefault(run.bank.name, {})
            held[folder] = found[folder].evaluation
    return [
        BankGroup(*key, {name: list(held.values()) for name, held in banks.items()})
        for key, banks in groups.items()
        if len(banks) > 1
    ]


def over_banks(by_bank: Sequence[Sequence[Pair]]) -> OverBanks:
    """Combine the differences that each bank has, under one seed of folds or several."""
    first, n_banks = by_bank[0][0], len(by_bank)
    means = [np.mean([pair.delta for pair in pairs]) for pairs in by_bank]
    delta, sd = float(np.mean(means)), float(np.std(means, ddof=1))
    every = [pair for pairs in by_bank for pair in pairs]
    below = np.mean([pair.delta - pair.ci.low for pair in every])
    above = np.mean([pair.ci.high - pair.delta for pair in every])
    of_banks = t.ppf((1 + LEVEL) / 2, n_banks - 1) * sd / np.sqrt(n_banks)
    low, high = delta - np.hypot(below, of_banks), delta + np.hypot(above, of_banks)
    return OverBanks(Pair(first.a, first.b, ALL, delta, Interval(float(low), float(high))), sd)


def banks_sheet(groups: Sequence[BankGroup]) -> pd.DataFrame:
    """Give every difference a row."""
    rows = [
        (
            *(group.model, group.settings or "(defaults)", one.pair.a, one.pair.b),
            len(group.banks),
            Estimate(one.pair.delta, *one.pair.ci),
            one.sd,
        )
        for group in groups
        for one in group.differences()
    ]
    columns = ("model", "settings", "detector", "minus", "banks", "difference", "sd over banks")
    return sheet_of(columns, rows)


def claims(groups: Sequence[BankGroup]) -> list[str]:
    """State of each group whether tracking helps, banks being a source of variance."""
    return [
        f"{group.model}, {len(group.banks)} banks: "
        f"{claim(tuple(one.pair for one in group.differences()))}"
        for group in groups
    ]
