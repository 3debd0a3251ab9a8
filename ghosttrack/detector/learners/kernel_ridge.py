"""Inner products of answers, and the ridge regression that is solved on them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

JITTER = 1e-7
"""Share of the mean variance that is added where landmarks say one thing twice."""
BLOCK = 4096
"""Rows that are centred at once."""


class DualWeights(NamedTuple):
    """score(x) = sum_i weights_i (k(x_i, x) - centers_i) over some of the landmarks."""

    places: Int[np.ndarray, " used"]
    """Of these among the landmarks."""
    weights: Float[np.ndarray, " used"]
    centers: Float[np.ndarray, " used"]


class Gram(NamedTuple):
    """Inner products k of answers with landmarks, answers themselves: all up to `MOST_DUAL`."""

    values: Float[np.ndarray, "sample landmark"]
    rows: Int[np.ndarray, " landmark"]
    """Numbers of the landmarks, ascending."""

    @classmethod
    def mean(cls, grams: Sequence["Gram"]) -> "Gram":
        """Take the mean of the inner products at several places."""
        return cls(np.mean([one.values for one in grams], axis=0), grams[0].rows)

    def of_others(self, others: Int[np.ndarray, " sample"]) -> "Gram":
        """Let every answer stand for another one; `others` is a permutation."""
        rows = np.argsort(others)[self.rows]
        order = np.argsort(rows)
        return Gram(self.values[np.ix_(others, order)], rows[order])

    def fit(
        self, labels: Int[np.ndarray, " sample"], train: Int[np.ndarray, " known"], ridge: float
    ) -> DualWeights:
        """Regress the labels of the training rows on their inner products.

        (K + ridge I) a = y - mean(y), K centred on the training rows; or, by landmarks
        among these rows, the least |y - mean(y) - C a|^2 + ridge a' W a, C centred likewise and W
        that of the landmarks.

        Source: Saunders 1998, ridge regression in dual variables; Williams and Seeger 2001.
        """
        from scipy.linalg import solve

        y = labels - labels[train].mean()
        if len(self.rows) == len(self.values):
            known = self.values[np.ix_(train, train)]
            center = known.mean(axis=0)
            square = known - center - center[:, None] + center.mean()
            square[np.diag_indices_from(square)] += ridge
            return DualWeights(
                train, solve(square, y[train], assume_a="pos", overwrite_a=True), center
            )
        own = np.flatnonzero(np.isin(self.rows, train))
        center = self.values[np.ix_(train, own)].mean(axis=0, dtype=np.float64)
        square = ridge * self.values[np.ix_(self.rows[own], own)].astype(np.float64)
        right = np.zeros(len(own))
        for start in range(0, len(train), BLOCK):
            rows = train[start : start + BLOCK]
            known = self.values[np.ix_(rows, own)] - center
            square += known.T @ known
            right += known.T @ y[rows]
        square[np.diag_indices_from(square)] += JITTER * np.trace(square) / len(square)
        weights = solve(square, right, assume_a="pos", overwrite_a=True)
        return DualWeights(own, weights, center)
