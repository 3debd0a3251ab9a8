"""Cluster bootstrap: whole groups are drawn, so that questions of one entity stay together."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ghosttrack.evaluation.result import UNDEFINED, Interval

LEVEL = 0.95
MOST_UNDEFINED = 0.05
"""Share of resamples without a value above which there is no interval."""


class Resamples(NamedTuple):
    """Draws of groups, the same for every detector and subset, so that differences are paired."""

    counts: Int[np.ndarray, "resample group"]
    """How often each group was drawn."""
    group_of: Int[np.ndarray, " sample"]

    def subset(self, rows: Bool[np.ndarray, " _"] | Int[np.ndarray, " _"]) -> "Resamples":
        """Take some rows, or rows in another order, under the same draws."""
        return Resamples(self.counts, self.group_of[rows])

    def sums(self, columns: Float[np.ndarray, "sample column"]) -> Float[np.ndarray, "_ column"]:
        """Add up each column under every draw."""
        n_groups = self.counts.shape[1]
        by_group = [np.bincount(self.group_of, column, n_groups) for column in columns.T]
        return self.counts.astype(np.float64) @ np.stack(by_group, axis=1)

    def mean(self, values: Float[np.ndarray, " sample"]) -> Float[np.ndarray, " resample"]:
        """Average under every draw what is finite; NaN where nothing is."""
        known = np.isfinite(values)
        total, n = self.sums(np.column_stack([np.where(known, values, 0.0), known])).T
        with np.errstate(invalid="ignore"):
            return total / n

    @property
    def n_groups(self) -> int:
        """Groups among the rows."""
        return np.unique(self.group_of).size


def resample(groups: Sequence[str], n_resamples: int, seed: int) -> Resamples:
    """Draw as many groups as there are, with replacement, `n_resamples` times."""
    _, group_of = np.unique(np.asarray(groups), return_inverse=True)
    n_groups = int(group_of.max()) + 1
    generator = np.random.default_rng(seed)
    counts = np.empty((n_resamples, n_groups), dtype=np.int16)
    for row in counts:
        row[:] = np.bincount(generator.integers(n_groups, size=n_groups), minlength=n_groups)
    return Resamples(counts, group_of)


def once(n: int) -> Resamples:
    """Take the sample as it is: one draw that holds every row once."""
    return Resamples(np.ones((1, 1), dtype=np.int16), np.zeros(n, dtype=np.int64))


def interval(values: Float[np.ndarray, " resample"], n_tests: int = 1) -> Interval:
    """Take the central 95 % of the resampled values.

    Of `n_tests` intervals that are to hold at once each is as much wider (Bonferroni). Resamples
    without a value (one class drawn only) are left out while they are few.
    """
    finite = values[np.isfinite(values)]
    if len(finite) < (1 - MOST_UNDEFINED) * len(values):
        return UNDEFINED
    tail = (1 - LEVEL) / 2 / n_tests
    low, high = np.quantile(finite, [tail, 1 - tail])
    return Interval(float(low), float(high))


def unbiased(point: float, values: Float[np.ndarray, " resample"]) -> tuple[float, Interval]:
    """Take off the bias of what cannot be negative, such as a calibration error, by its square.

    Gaps between frequency and probability are noise even where a detector is calibrated: with v of
    it, the square of a mean of absolute gaps lies about v above the truth's, under draws v more.
    The truth's is then twice the point's less the draws' mean. The interval is the wider of the
    basic bootstrap's of the squares, right near 0, and that of the draws less the bias, right far
    from it.

    Source: Efron and Tibshirani 1993, section 10.2.
    """
    bounds = interval(values)
    if not np.isfinite(bounds.low):
        return float("nan"), UNDEFINED
    squares = 2 * point**2 - np.array([np.nanmean(values**2), bounds.high**2, bounds.low**2])
    corrected, low, high = np.sqrt(np.maximum(squares, 0.0)).tolist()
    moved = bounds.high - float(np.nanmean(values)) + corrected
    return corrected, Interval(low, max(high, moved))
