"""Cluster bootstrap: whole groups are drawn, so that questions of one entity stay together."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ghosttrack.evaluation.result import UNDEFINED, Interval
from ghosttrack.evaluation.scores import Judged, Scores, score

LEVEL = 0.95
BLOCK_ELEMENTS = 20_000
"""Weights expanded at a time: blocks of 160 kB in float64 stay in the cache."""
MOST_UNDEFINED = 0.05
"""Share of resamples without a value above which there is no interval."""


class Resamples(NamedTuple):
    """Draws of groups, the same for every detector and subset, so that differences are paired."""

    counts: Int[np.ndarray, "resample group"]
    """How often each group was drawn."""
    group_of: Int[np.ndarray, " sample"]

    def subset(self, mask: Bool[np.ndarray, " sample"]) -> "Resamples":
        """Keep some rows under the same draws."""
        return Resamples(self.counts, self.group_of[mask])

    def blocks(self) -> Iterator[Int[np.ndarray, "block sample"]]:
        """Expand draws of groups to weights of rows, some resamples at a time."""
        step = max(1, BLOCK_ELEMENTS // max(1, len(self.group_of)))
        for start in range(0, len(self.counts), step):
            # `take` keeps rows contiguous, along which sums run.
            yield np.take(self.counts[start : start + step], self.group_of, axis=1)

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


def interval(values: Float[np.ndarray, " resample"]) -> Interval:
    """Take the central 95 % of the resampled values.

    Resamples without a value (one class drawn only) are left out while they are few.
    """
    finite = values[np.isfinite(values)]
    if len(finite) < (1 - MOST_UNDEFINED) * len(values):
        return UNDEFINED
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def bootstrap(
    statistic: Callable[[Int[np.ndarray, "block sample"]], Float[np.ndarray, " block"]],
    resamples: Resamples,
) -> Float[np.ndarray, " resample"]:
    """Evaluate a function of weights under every draw."""
    return np.concatenate([statistic(weights) for weights in resamples.blocks()])


def bootstrap_scores(judged: Judged, resamples: Resamples) -> Scores:
    """Compute every score under every draw."""
    parts = [score(judged, weights) for weights in resamples.blocks()]
    return Scores(*(np.concatenate(values) for values in zip(*parts, strict=True)))
