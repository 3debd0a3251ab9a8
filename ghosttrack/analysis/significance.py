"""Tests of what sweeps find, many at once."""

from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from scipy.stats import false_discovery_control, hypergeom

LEVEL = 0.05
"""Share of false ones that is borne with among what is called found."""
MOST_LISTED = 10_000
"""Of more ways to part than these, so many are looked at: the true one and others at random."""
ROUNDING = 1e-9
"""Differences closer than this, beside the largest value, are equal."""
NEGLIGIBLE = 1e-16
"""Share of a sum below which what is left of it makes no difference."""


def adjusted(p: Float64[np.ndarray, " test"], n_tests: int) -> Float64[np.ndarray, " test"]:
    """Adjust p-values so that those up to q hold a share of false ones of q (Benjamini, Hochberg).

    Args:
        p: The smallest ones.
        n_tests: All that were made; p of those beyond is 1.

    >>> adjusted(np.array([0.04, 0.01]), 4).tolist()
    [0.08, 0.04]
    """
    return np.minimum(false_discovery_control(p) * (n_tests / max(len(p), 1)), 1.0)


def upper_tail(
    hits: Int[np.ndarray, " pair"],
    n: int,
    n_marked: Int[np.ndarray, " pair"],
    n_drawn: Int[np.ndarray, " pair"],
) -> Float64[np.ndarray, " pair"]:
    """Find how likely so many `hits` or more are when `n_drawn` of `n` are drawn at random.

    Sums the hypergeometric distribution upwards, for all pairs at once: `hypergeom.sf` takes 100
    microseconds for each of millions.

    >>> upper_tail(np.array([2]), 4, np.array([2]), np.array([2])).round(9).tolist()  # 1 of 6
    [0.166666667]
    """
    term = np.exp(hypergeom.logpmf(hits, n, n_marked, n_drawn))
    tail, at = term.copy(), hits
    while np.any(term > NEGLIGIBLE * tail):
        left = (at + 1) * (n - n_marked - n_drawn + at + 1.0)
        term, at = term * (n_marked - at) * (n_drawn - at) / left, at + 1
        tail += term
    return tail


class Shift(NamedTuple):
    """How far two sets of values lie apart, and whether by chance."""

    difference: float
    """Mean of those that are marked less mean of the others."""
    p: float
    """Share of ways to mark as many in which the means lie at least as far apart."""
    smallest: float
    """The least that p could have been."""


def shift(
    values: Float[np.ndarray, " value"], marked: Bool[np.ndarray, " value"], seed: int
) -> Shift:
    """Test whether marked values differ from the others: by permutation, to both sides.

    Args:
        values: Independent of one another.
        marked: Some, not all.
        seed: Of the ways to mark, where they are too many to list.
    """
    ways = _ways(marked, seed)
    n_marked = int(marked.sum())
    apart = ways @ values / n_marked - ~ways @ values / (len(values) - n_marked)
    observed = float(values[marked].mean() - values[~marked].mean())
    p = np.mean(np.abs(apart) >= abs(observed) - ROUNDING * np.abs(values).max())
    return Shift(observed, float(p), least_p(len(values), n_marked))


def least_p(n: int, n_marked: int) -> float:
    """Find the smallest p of `shift`: of equal halves the mirror image lies as far apart.

    >>> least_p(3, 1), least_p(8, 4), least_p(40, 20)
    (0.3333333333333333, 0.02857142857142857, 0.0001)
    """
    n_ways = comb(n, n_marked)
    if n_ways > MOST_LISTED:
        return 1 / MOST_LISTED
    return (2 if 2 * n_marked == n else 1) / n_ways


def _ways(marked: Bool[np.ndarray, " value"], seed: int) -> Bool[np.ndarray, "way value"]:
    """List the ways to mark as many, or the given one and random others."""
    n, n_marked = len(marked), int(marked.sum())
    if comb(n, n_marked) > MOST_LISTED:
        others = np.tile(marked, (MOST_LISTED - 1, 1))
        return np.vstack([marked, np.random.default_rng(seed).permuted(others, axis=1)])
    chosen = np.array(list(combinations(range(n), n_marked)))
    ways = np.zeros((len(chosen), n), dtype=bool)
    ways[np.arange(len(chosen))[:, None], chosen] = True
    return ways
