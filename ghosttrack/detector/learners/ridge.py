"""A probe on the residual streams of every layer, solved for answers instead of dimensions."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ghosttrack.detector.learners.classifiers import (
    Asked,
    Known,
    Labels,
    Learner,
    Option,
    Scores,
    z,
)
from ghosttrack.detector.learners.kernel_ridge import Gram

RIDGES = (1.0, 0.3, 0.1, 3.0, 10.0)
"""Penalties, where an answer's inner product with itself is about 1."""
QUARTILE = 0.6745
"""Of the standard normal distribution."""
MOST_DUAL, LANDMARKS = 4096, 512
"""Answers up to which inner products of all with all are held; of more, with so many landmarks."""


@dataclass(frozen=True)
class RidgeProbe(Learner):
    """Ridge regression of the label on the residual streams of every layer, at one place or more.

    Solved for answers, of which there are fewer than dimensions. No layer is chosen: where few
    answers are of the rarer label, the choice costs more than the other layers' noise. k is the
    mean inner product over `streams`.
    """

    streams: Mapping[str, Float[np.ndarray, "layer sample d_model"]]
    """By place."""
    layers: tuple[int, ...]
    gram: Gram

    def options(self) -> tuple[Option, ...]:
        """The penalties."""
        return tuple(Option(f"ridge {ridge:g}", strength=ridge) for ridge in RIDGES)

    def fit_predict(
        self, option: Option, labels: Labels, train: Known, test: Asked, seed: int
    ) -> Scores:
        """Score by the regression, 0 at the mean of the training rows."""
        places, weights, centers = self.gram.fit(labels, train, option.strength)
        return (self.gram.values[np.ix_(test, places)] - centers) @ weights

    def values(self) -> Float[np.ndarray, "sample column"]:
        """Join all streams: places, in them layers, in them dimensions."""
        return np.concatenate([one for held in self.streams.values() for one in held], axis=1)

    def names(self) -> tuple[str, ...]:
        """Name the columns of `values`: `states:<place>/<layer>/<dimension>`."""
        return tuple(
            f"states:{place}/{layer}/{number}"
            for place, held in self.streams.items()
            for layer in self.layers
            for number in range(held.shape[2])
        )

    def weigh(self, option: Option, labels: Labels) -> tuple[Float[np.ndarray, " column"], float]:
        """Weigh the standardised columns of `values`, learned from every row; and the intercept."""
        places, found, centers = self.gram.fit(labels, np.arange(len(labels)), option.strength)
        values = self.values()
        known = z(values[self.gram.rows[places]], *quartiles(values))
        weights = known.T @ found / values.shape[1]
        return weights.astype(np.float64), -float(centers @ found)


def inner_products(streams: Float[np.ndarray, "layer sample d_model"]) -> Gram:
    """Compute mean inner products of answers over layers and dimensions.

    Every dimension counts in `quartiles` of all answers, whatever their labels. Of more answers
    than `MOST_DUAL` landmarks stand for all, evenly among them: memory then grows with the answers,
    not with their square.
    """
    n = streams.shape[1]
    rows = np.arange(n)
    if n > MOST_DUAL:
        rows = np.linspace(0, n - 1, LANDMARKS).round().astype(np.int64)
    found = np.zeros((n, len(rows)), np.float64 if len(rows) == n else np.float32)
    for layer in streams:
        known = z(layer, *quartiles(layer)).astype(np.float32)
        found += known @ (known if len(rows) == n else known[rows]).T
    found /= len(streams) * streams.shape[2]
    return Gram(found, rows)


def quartiles(
    values: Float[np.ndarray, "sample column"],
) -> tuple[Float[np.ndarray, " column"], Float[np.ndarray, " column"]]:
    """Measure median and deviation, that of a normal distribution with these quartiles.

    Streams have dimensions in which few answers are a thousand times the others: those would rule
    a mean deviation. One of 0 counts as 1.
    """
    low, center, high = np.quantile(values, (0.25, 0.5, 0.75), axis=0).astype(np.float64)
    spread = (high - low) / (2 * QUARTILE)
    return center, np.where(spread > 0, spread, 1.0)
