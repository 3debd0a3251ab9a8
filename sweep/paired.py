"""Evaluations that judge the same answers, detector against detector."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ghosttrack.analysis.evaluations import TEXTS, EvaluationRecord
from ghosttrack.evaluation.bootstrap import interval, resample
from ghosttrack.evaluation.scores import resampled_auroc
from ghosttrack.questions.categories import RIGHT
from ghosttrack.report.sheet import Cell, sheet_of
from ghosttrack.report.tables import Estimate

N_RESAMPLES = 1000
KEYS = ["question", "answer", "category"]
OTHER = " of the other"
LEAST_SHARED = 50
"""Answers that two evaluations must share for their difference to be told."""


class _Scored(NamedTuple):
    name: str
    scores: pd.DataFrame
    """By question, answer and category; a column per detector."""


def paired_sheet(
    found: Mapping[Path, EvaluationRecord], detectors: Sequence[str], seed: int = 0
) -> pd.DataFrame:
    """Compare detectors over the answers that two evaluations share, on the same resamples.

    Answers are the same where question, answer and category are; groups are drawn whole, or
    questions, where an evaluation of before names no groups. One
    evaluation is compared with another by the same detector; different detectors of one
    evaluation stand in its own report.
    """
    scored = [_Scored(one.name, _read(folder)) for folder, one in found.items()]
    rows: list[tuple[Cell, ...]] = []
    for first, second in combinations(scored, 2):
        shared = first.scores.join(second.scores.add_suffix(OTHER), how="inner")
        wrong = first.scores.loc[shared.index, "wrong"].to_numpy()
        if len(shared) < LEAST_SHARED or len(np.unique(wrong)) < 2:
            continue
        draws = resample(shared["group"].tolist(), N_RESAMPLES, seed)
        for name in detectors:
            if name not in first.scores or name not in second.scores:
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


def _read(folder: Path) -> pd.DataFrame:
    """Read the scores of answers that no other of the evaluation reads like."""
    table = pd.read_csv(folder / "tables" / "scores.csv", dtype=dict.fromkeys(TEXTS, str))
    table = table.fillna(dict.fromkeys(KEYS, "")).drop_duplicates(KEYS)
    if "group" not in table:
        table = table.assign(group=table["question"])
    right = table["category"].isin(list(RIGHT))
    return table.assign(wrong=(~right).astype(np.int64)).set_index(KEYS)
