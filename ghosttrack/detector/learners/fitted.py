"""A fitted detector at rest, in files that are read without executing anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from safetensors.numpy import load_file, save_file

from ghosttrack.detector.learners.calibration import Calibration, Steps
from ghosttrack.detector.learners.scorers import Contributions, Linear, Scorer, Trees, scores
from ghosttrack.detector.table import Table
from ghosttrack.errors import DataError, whole
from ghosttrack.files import read_json, write_json

FACTS, ARRAYS = "detectors.json", "detectors.safetensors"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Of every column among right and among hallucinated answers, to say what is usual."""
KINDS: Mapping[str, type[Linear] | type[Trees]] = {"linear": Linear, "trees": Trees}


@dataclass(frozen=True)
class FittedDetector:
    """One detector, fitted on all labelled answers.

    Attributes:
        name: As in the evaluation.
        columns: `<table>:<column>` of what it sees, in the order of its values.
        scorer: Scores in log-odds.
        option: What the inner folds chose, as reports name it.
        calibration: Fitted on out-of-fold scores.
        threshold: Probability from which on an answer is called hallucinated.
        prevalence: Share of hallucinated answers among those that it was fitted on.
        has_holes: Whether some of those lacked the column.
        quantiles: `QUANTILES` of the columns among right (0) and hallucinated (1) answers; NaN
            where all lack it.
    """

    name: str
    columns: tuple[str, ...]
    scorer: Scorer
    option: str
    calibration: Calibration
    threshold: float
    prevalence: float
    has_holes: Bool[np.ndarray, " column"]
    quantiles: Float[np.ndarray, "label quantile column"]

    @property
    def tables(self) -> tuple[str, ...]:
        """Tables that it reads."""
        return tuple(dict.fromkeys(column.partition(":")[0] for column in self.columns))

    def values(self, tables: Mapping[str, Table]) -> Float[np.ndarray, "row column"]:
        """Look its columns up; NaN where a table or a column is missing or not finite."""
        n_rows = len(next(iter(tables.values())))
        found = np.full((n_rows, len(self.columns)), np.nan)
        for at, column in enumerate(self.columns):
            table, _, name = column.partition(":")
            if table in tables and name in tables[table].names:
                found[:, at] = tables[table].column(name)
        return np.where(np.isfinite(found), found, np.nan)

    def lacks(self, values: Float[np.ndarray, "row column"]) -> Bool[np.ndarray, " row"]:
        """Tell which rows miss a value that no answer missed on which the detector was fitted."""
        return np.logical_or.reduce(np.isnan(values) & ~self.has_holes, axis=1)

    def parts(self, values: Float[np.ndarray, "row column"]) -> Contributions:
        """Say what each column adds to the log-odds, before calibration."""
        return self.scorer.parts(values)

    def prob(self, values: Float[np.ndarray, "row column"]) -> Float[np.ndarray, " row"]:
        """Calibrated probability of hallucination."""
        return self.calibration.prob(scores(self.scorer, values))


def quantiles(
    values: Float[np.ndarray, "row column"], labels: Int[np.ndarray, " row"]
) -> Float[np.ndarray, "label quantile column"]:
    """Measure `QUANTILES` of each column among right and hallucinated answers."""
    found = np.full((2, len(QUANTILES), values.shape[1]), np.nan)
    for label in (0, 1):
        for at, column in enumerate(values[labels == label].T):
            known = column[np.isfinite(column)]
            if len(known):
                found[label, :, at] = np.quantile(known, QUANTILES)
    return found


def save(folder: Path, detectors: Sequence[FittedDetector]) -> None:
    """Write every detector of the folder: JSON for facts, safetensors for numbers."""
    facts, arrays = [], {}
    for place, one in enumerate(detectors):
        kind = "linear" if isinstance(one.scorer, Linear) else "trees"
        calibration = one.calibration._asdict()
        steps = calibration.pop("steps")
        parts = {
            **{f"scorer.{name}": held for name, held in one.scorer._asdict().items()},
            **({f"steps.{name}": held for name, held in steps._asdict().items()} if steps else {}),
            "has_holes": one.has_holes,
            "quantiles": one.quantiles,
        }
        arrays |= {f"{place}.{name}": np.array(held, order="C") for name, held in parts.items()}
        facts.append(
            {
                **{name: getattr(one, name) for name in ("name", "option", "threshold")},
                "prevalence": one.prevalence,
                "columns": list(one.columns),
                "scorer": kind,
                "calibration": calibration,
            }
        )
    save_file(arrays, folder / ARRAYS)
    write_json(folder / FACTS, facts)


def load(folder: Path) -> tuple[FittedDetector, ...]:
    """Read what `save` wrote.

    Raises:
        DataError: A file is missing, or holds anything else.
    """
    facts = read_json(folder / FACTS)
    if not (folder / ARRAYS).is_file():
        raise DataError(f"{folder / ARRAYS}: is missing; delete the folder to build it again")
    with whole(folder):
        arrays = load_file(folder / ARRAYS)
        return tuple(_load_one(one, _below(arrays, f"{place}.")) for place, one in enumerate(facts))


def _load_one(
    facts: Mapping[str, Any], arrays: Mapping[str, Shaped[np.ndarray, "..."]]
) -> FittedDetector:
    scorer = KINDS[facts["scorer"]](**_below(arrays, "scorer."))
    scorer.check(len(facts["columns"]))
    steps = _below(arrays, "steps.")
    calibration = Calibration(**facts["calibration"], steps=Steps(**steps) if steps else None)
    return FittedDetector(
        name=facts["name"],
        columns=tuple(facts["columns"]),
        scorer=scorer,
        option=facts["option"],
        calibration=calibration,
        threshold=facts["threshold"],
        prevalence=facts["prevalence"],
        has_holes=arrays["has_holes"],
        quantiles=arrays["quantiles"],
    )


def _below(
    arrays: Mapping[str, Shaped[np.ndarray, "..."]], prefix: str
) -> dict[str, Shaped[np.ndarray, "..."]]:
    return {
        name.removeprefix(prefix): held for name, held in arrays.items() if name.startswith(prefix)
    }
