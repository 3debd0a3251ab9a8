"""Do single statistics lie on the side that was expected of them before any label was seen?"""

from collections.abc import Mapping
from math import sqrt
from typing import NamedTuple, cast

import numpy as np
from jaxtyping import Float, Int
from joblib import Parallel, delayed
from scipy.stats import false_discovery_control
from scipy.stats import t as student

from ghosttrack.data.progress import Meter
from ghosttrack.detector.table import Table
from ghosttrack.evaluation.bootstrap import Resamples, interval
from ghosttrack.evaluation.result import Expectation, Interval
from ghosttrack.evaluation.scores import resampled_auroc

FALSE_SHARE = 0.05
"""Share of false ones that is borne with among the verdicts that hold or fail."""
MOST_DRAWS = 500
"""Draws of groups behind a standard error: they give it to 3 %."""


class _Area(NamedTuple):
    """AUROC of a column where it is defined, and how likely one as far from 0.5 is by chance."""

    n: int
    auroc: float
    ci: Interval
    p: float


def expectations(
    tables: Mapping[str, Table],
    directions: Mapping[str, int],
    labels: Int[np.ndarray, " sample"],
    resamples: Resamples,
    parallel: Parallel,
) -> tuple[Expectation, ...]:
    """Test every column that has an expected direction, on the answers for which it is defined.

    Tests are two-sided, Student's with the standard error of the cluster bootstrap, and adjusted
    for their number (Benjamini and Hochberg 1995).
    """
    draws = resamples._replace(counts=resamples.counts[:MOST_DRAWS])
    asked = [
        (name, column, values)
        for name, table in tables.items()
        for column, values in zip(table.names, table.values.T, strict=True)
        if directions.get(column)
    ]
    with Meter("judging single statistics", len(asked), unit="statistics") as meter:
        areas = parallel(delayed(_area)(one[2], labels, draws) for one in meter.over(asked))
    found = [
        (name, column, area)
        for (name, column, _), area in zip(asked, cast("list[_Area | None]", areas), strict=True)
        if area is not None
    ]
    levels = false_discovery_control([area.p for *_, area in found]) if found else ()
    return tuple(
        Expectation(name, column, area.n, area.auroc, area.ci, float(q), verdict)
        for (name, column, area), q in zip(found, levels, strict=True)
        for verdict in (_verdict((area.auroc - 0.5) * directions[column], q),)
    )


def _area(
    values: Float[np.ndarray, " sample"], labels: Int[np.ndarray, " sample"], draws: Resamples
) -> _Area | None:
    """None where the column is known of one label alone, or of one group."""
    known = np.isfinite(values)
    values, labels, drawn = values[known], labels[known], draws.subset(known)
    n_wrong, n_groups = int(labels.sum()), drawn.n_groups
    n_right = len(labels) - n_wrong
    if not n_wrong or not n_right or n_groups < 2:
        return None
    auroc, areas = resampled_auroc(labels, values, drawn)
    independent = sqrt((len(labels) + 1) / (12 * n_right * n_wrong))  # Mann-Whitney's, at 0.5
    error = max(float(np.nanstd(areas)), independent)
    p = 2 * student.sf(abs(auroc - 0.5) / error, n_groups - 1)
    return _Area(len(labels), auroc, interval(areas), float(p))


def _verdict(excess: float, q: float) -> str:
    if q > FALSE_SHARE:
        return "not shown"
    return "holds" if excess > 0 else "fails"
