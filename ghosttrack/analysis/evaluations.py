"""Read an evaluation back from its files."""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Int

from ghosttrack.analysis.runs import Hook, RunRecord
from ghosttrack.artifacts import read
from ghosttrack.command import say
from ghosttrack.errors import ConfigError, DataError, whole
from ghosttrack.evaluation.result import (
    ALL,
    CausalRate,
    Evaluation,
    Expectation,
    Interval,
    NullComparison,
    Pair,
    PartGain,
    Reliability,
    Row,
)
from ghosttrack.evaluation.roster import CHIEF
from ghosttrack.files import read_json
from ghosttrack.questions.categories import RIGHT
from ghosttrack.report.tables import Estimate

RECORDS = {
    **{"rows": Row, "paired": Pair, "tracking": NullComparison, "causal": CausalRate},
    **{"parts": PartGain, "expectations": Expectation, "reliability": Reliability},
}
TEXTS = ("question", "answer", "category", "group")
"""Columns of `tables/scores.csv` that are no detector's."""

T = TypeVar("T")


class EvaluationRecord(NamedTuple):
    """An evaluation and what stands beside it."""

    name: str
    """Model and folder."""
    evaluation: Evaluation
    """Without folds and thresholds, which no file keeps."""
    table: pd.DataFrame
    """As `read_scores` gives it."""
    identity: Mapping[str, Any]
    """What determined it: ids of what it judges, folds, resamples, seed."""
    git_commit: str
    hooks: list[Hook]
    """Held-out metrics of the bank, per hook point."""

    @property
    def labels(self) -> Int[np.ndarray, " sample"]:
        """1 = hallucinated."""
        return self.table["wrong"].to_numpy()


def read_evaluation(folder: Path) -> EvaluationRecord:
    """Read a folder of `evaluations`.

    Raises:
        DataError: It is no complete evaluation, a file of it is malformed, or it is of a version
            that wrote other entries.
    """
    artifact = read(folder, "evaluations")
    found = read_json(folder / "evaluation.json")
    with whole(folder):
        table = read_scores(folder)
        scores = {name: table[name].to_numpy() for name in scored(table)}
        values = {name: _value(value) for name, value in found.items()}
        values |= {"scores": scores, "flagged": {}, "folds": np.full(len(table), -1)}
        try:
            for name, kind in RECORDS.items():
                values[name] = tuple(_record(kind, one) for one in values[name])
            evaluation = _record(Evaluation, values)
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{folder}: made by another version of ghosttrack; the same detect.py command"
                " makes it anew"
            ) from error
        hooks = read_json(folder / "metrics.json").get("hooks", [])
        facts = artifact.manifest
        return EvaluationRecord(
            f"{folder.parents[1].name} {folder.name}",
            *(evaluation, table, facts["identity"], facts["git_commit"], hooks),
        )


def read_scores(folder: Path) -> pd.DataFrame:
    """Read an evaluation's answers: `TEXTS`, `wrong` (0 or 1), and every detector's probability.

    Raises:
        DataError: The file cannot be read, or holds no numbers.
    """
    path = folder / "tables" / "scores.csv"
    try:
        with whole(path):
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
            table = table.astype(dict.fromkeys(table.columns.difference(TEXTS), float))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return table.assign(wrong=(~table["category"].isin(list(RIGHT))).astype(np.int64))


def scored(table: pd.DataFrame) -> list[str]:
    """Name the detectors that have a column."""
    return [name for name in table if name not in (*TEXTS, "wrong")]


def read_evaluations(runs: Iterable[RunRecord]) -> dict[Path, EvaluationRecord]:
    """Read each run's evaluation once; say which could not be, as those of an earlier format."""
    found = {}
    for folder in dict.fromkeys(run.evaluation for run in runs if run.evaluation is not None):
        try:
            found[folder] = read_evaluation(folder)
        except DataError as error:
            say(f"left out: {error}")
    return found


def auroc(evaluation: Evaluation, detector: str, subset: str = ALL) -> Estimate | None:
    """Look up a detector's AUROC; None where it was left out."""
    try:
        row = evaluation.row(detector, subset)
    except KeyError:
        return None
    return Estimate(row.auroc, *row.auroc_ci)


USUAL = f"{','.join(CHIEF)}, as far as they were evaluated"


def add_detectors(parser: argparse.ArgumentParser, default: str = USUAL) -> None:
    """Add `--detectors`; None where nobody named any, which `default` says the meaning of."""
    parser.add_argument(
        "--detectors",
        type=_names,
        help=f"names as in evaluation.json, with commas (default {default})",
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def choose(detectors: tuple[str, ...] | None, found: Iterable[EvaluationRecord]) -> tuple[str, ...]:
    """Settle whose columns a table has.

    Raises:
        ConfigError: No evaluation has one of `detectors`.
    """
    there = {row.detector for one in found for row in one.evaluation.rows}
    if detectors is None:
        return tuple(name for name in CHIEF if name in there)
    if missing := [name for name in detectors if name not in there]:
        known = f"there are {', '.join(sorted(there))}" if there else "no run evaluated any"
        raise ConfigError(f"--detectors: no {', '.join(missing)}; {known}")
    return detectors


def _record(kind: type[T], values: Mapping[str, Any]) -> T:
    names = [field.name for field in fields(kind)]  # pyright: ignore[reportArgumentType]
    return kind(**{name: values[name] for name in names if name in values})


def _value(value: object) -> Any:  # noqa: ANN401 - JSON in, our records' kinds out
    """Undo what `Evaluation.to_json` does: null is NaN, a pair of numbers an interval."""
    if value is None:
        return float("nan")
    if isinstance(value, dict):
        return {name: _value(one) for name, one in value.items()}
    if isinstance(value, list):
        ends = [_value(one) for one in value]
        is_interval = len(ends) == 2 and all(isinstance(end, float | int) for end in ends)
        return Interval(*map(float, ends)) if is_interval else tuple(ends)
    return value
