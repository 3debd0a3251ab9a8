"""One table of runs, a row each."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from ghosttrack.analysis.evaluations import EvaluationRecord, auroc
from ghosttrack.analysis.runs import RunRecord, common_overrides
from ghosttrack.evaluation.result import ALL, CONFIDENT
from ghosttrack.report.sheet import Cell, sheet_of

SUBSETS = (ALL, next(iter(CONFIDENT)))
SAE_METRICS = (*("explained_variance", "fvu", "dead_frac", "l0", "mse", "ce_recovered", "kl"),)
SHAPE = ("architecture", "d_sae", "k", "expansion", "hooks")
RUN = ("model", "run", "program", "status", "seconds", "overrides")
ANSWERS = ("answers", "groups", "hallucinated_frac")
PRINTED = (
    *("overrides", "program", "status", "seconds", "d_sae", "k"),
    *("explained_variance", "dead_frac", "l0", "answers"),
)
"""Columns that a terminal has room for, beside the detectors'; the files have all."""


def brief(sheet: pd.DataFrame, runs: Sequence[RunRecord]) -> pd.DataFrame:
    """Take the columns that a page has room for, and of settings those that not all runs share."""
    common = common_overrides(runs)
    detectors = sheet.columns[len((*RUN, *SHAPE, *SAE_METRICS, *ANSWERS)) :]
    own = [" ".join(one for one in run.overrides if one not in common) for run in runs]
    few = sheet[[*PRINTED, *detectors]]
    return few.assign(overrides=[said or "(defaults)" for said in own])


def collect(
    runs: Sequence[RunRecord], found: Mapping[Path, EvaluationRecord], detectors: tuple[str, ...]
) -> pd.DataFrame:
    """Put runs together, a row each.

    Args:
        runs: In the order of the rows.
        found: Their evaluations, by folder.
        detectors: Whose AUROC has columns.
    """
    columns = [f"{name} AUROC {subset}" for name in detectors for subset in SUBSETS]
    return sheet_of(
        (*RUN, *SHAPE, *SAE_METRICS, *ANSWERS, *columns),
        [
            _row(one, found.get(one.evaluation) if one.evaluation else None, detectors)
            for one in runs
        ],
    )


def _row(
    run: RunRecord, found: EvaluationRecord | None, detectors: tuple[str, ...]
) -> tuple[Cell, ...]:
    bank = run.bank
    cells: list[Cell] = [run.model, run.name, run.program, run.status, run.seconds]
    cells.append(" ".join(run.overrides))
    if bank is None:
        cells += [None] * len((*SHAPE, *SAE_METRICS))
    else:
        cells += [bank.architecture, bank.d_sae, bank.k, bank.expansion, len(bank.hooks)]
        cells += [bank.mean(name) for name in SAE_METRICS]
    if found is None:
        return (*cells, *[None] * (len(ANSWERS) + len(detectors) * len(SUBSETS)))
    judged = found.evaluation
    cells += [judged.n, judged.n_groups, judged.hallucinated_frac]
    return (*cells, *(auroc(judged, name, subset) for name in detectors for subset in SUBSETS))
