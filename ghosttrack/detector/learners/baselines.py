"""What tracks must beat: probes on residual streams and latents, words, exposure to the fact."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from ghosttrack.detector.learners.classifiers import (
    Asked,
    Known,
    Option,
    fit_logistic,
    standardise,
)
from ghosttrack.detector.table import Table

PROBE_STRENGTHS = (0.001, 0.01, 0.1)
LATENT_STRENGTHS = (0.03, 0.1, 0.3, 1.0)
TEXT_STRENGTH = 1.0
EMPTY = "(empty)"
WIDE = 300
"""Columns from which on Newton's steps cost more than those of L-BFGS."""
LEAST_ACTIVE = 5
"""Training rows in which a latent must be active to be looked at."""


class LinearProbe(NamedTuple):
    """Logistic regression on the residual stream of one layer.

    Source: SAPLMA, Azaria and Mitchell 2023; linear.
    """

    residuals: Float[np.ndarray, "layer sample d_model"]
    layers: tuple[int, ...]

    def options(self) -> tuple[Option, ...]:
        """Every layer at the middle strength."""
        return tuple(_layer_option(self.layers, at, 0.01) for at in range(len(self.layers)))

    def refine(self, option: Option) -> tuple[Option, ...]:
        """The best layer at the other strengths."""
        return _other_strengths(self.layers, option, PROBE_STRENGTHS)

    def fit_predict(
        self,
        option: Option,
        labels: Int[np.ndarray, " sample"],
        train: Known,
        test: Asked,
        seed: int,
    ) -> Float[np.ndarray, " asked"]:
        """Score by the log-odds."""
        layer = self.residuals[option.place]
        known, asked = standardise(layer[train], layer[test])
        solver = "newton-cholesky" if known.shape[1] < WIDE else "lbfgs"
        model = fit_logistic(known, labels[train], option.strength, solver)
        return model.decision_function(asked).astype(np.float64)


class Distance(NamedTuple):
    """Distance of the residual stream of one layer from those of right answers.

    score = (h - m)' S^-1 (h - m), m and S of the training rows' right answers; if relative, less
    the same with m and S of all training rows. S is shrunk by Ledoit and Wolf.

    Source: Mahalanobis distance, Lee 2018; relative, Ren 2023.
    """

    residuals: Float[np.ndarray, "layer sample d_model"]
    layers: tuple[int, ...]
    relative: bool

    def options(self) -> tuple[Option, ...]:
        """Every layer."""
        return tuple(Option(f"layer {layer}", place=at) for at, layer in enumerate(self.layers))

    def refine(self, option: Option) -> tuple[Option, ...]:
        """Nothing to choose."""
        return ()

    def fit_predict(
        self,
        option: Option,
        labels: Int[np.ndarray, " sample"],
        train: Known,
        test: Asked,
        seed: int,
    ) -> Float[np.ndarray, " asked"]:
        """Score by the distance; wrong answers serve as background alone."""
        layer = self.residuals[option.place]
        known, asked = standardise(layer[train], layer[test])
        distance = _distance(known[labels[train] == 0], asked)
        return distance - _distance(known, asked) if self.relative else distance


class Latents(NamedTuple):
    """Logistic regression with an L1 penalty on the SAE latents of one layer."""

    acts: tuple[csr_array, ...]
    layers: tuple[int, ...]

    def options(self) -> tuple[Option, ...]:
        """Every layer at one strength."""
        return tuple(_layer_option(self.layers, at, 0.1) for at in range(len(self.layers)))

    def refine(self, option: Option) -> tuple[Option, ...]:
        """The best layer at the other strengths."""
        return _other_strengths(self.layers, option, LATENT_STRENGTHS)

    def fit_predict(
        self,
        option: Option,
        labels: Int[np.ndarray, " sample"],
        train: Known,
        test: Asked,
        seed: int,
    ) -> Float[np.ndarray, " asked"]:
        """Score by the log-odds; latents are scaled to unit mean square, never centred."""
        known = csr_array(self.acts[option.place][train])
        active = np.flatnonzero(np.bincount(known.indices) >= LEAST_ACTIVE)
        if not active.size:
            return np.zeros(len(test))
        known = known[:, active].astype(np.float64)
        asked = self.acts[option.place][test][:, active].astype(np.float64)
        scale = 1 / np.sqrt(known.power(2).mean(axis=0))
        model = logistic_regression(
            C=option.strength,
            l1_ratio=1.0,
            solver="liblinear",
            intercept_scaling=10,
            max_iter=1000,
            random_state=seed,
        )
        model.fit(known.multiply(scale).tocsr(), labels[train])
        return model.decision_function(asked.multiply(scale).tocsr())


class Words(NamedTuple):
    """Logistic regression on TF-IDF of texts: what the words alone give away."""

    texts: tuple[str, ...]
    analyzer: str
    """`word`, `char_wb` (parts of words), or `whole` (the text is one token)."""

    def options(self) -> tuple[Option, ...]:
        """One."""
        return (Option(f"TF-IDF ({self.analyzer}), C={TEXT_STRENGTH:g}", strength=TEXT_STRENGTH),)

    def refine(self, option: Option) -> tuple[Option, ...]:
        """Nothing to choose."""
        return ()

    def fit_predict(
        self,
        option: Option,
        labels: Int[np.ndarray, " sample"],
        train: Known,
        test: Asked,
        seed: int,
    ) -> Float[np.ndarray, " asked"]:
        """Score by the log-odds; the vocabulary is that of the training rows."""
        vectors = _vectoriser(self.analyzer)
        known = vectors.fit_transform([self.texts[row] or EMPTY for row in train])
        asked = vectors.transform([self.texts[row] or EMPTY for row in test])
        model = logistic_regression(C=option.strength, max_iter=1000)
        return model.fit(known, labels[train]).decision_function(asked)


def exposure_table(exposures: Int[np.ndarray, " sample"]) -> Table | None:
    """Give log(1 + times the fact was seen); None where this is not known of every answer."""
    if (exposures < 0).any():
        return None
    return Table(("log_exposure",), np.log1p(exposures.astype(np.float64))[:, None])


def logistic_regression(**settings: Any) -> Any:  # noqa: ANN401 - scikit-learn's
    """Make scikit-learn's classifier."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(**settings)


def _distance(
    known: Float[np.ndarray, "known d_model"], asked: Float[np.ndarray, "asked d_model"]
) -> Float[np.ndarray, " asked"]:
    from sklearn.covariance import LedoitWolf

    return LedoitWolf().fit(known.astype(np.float64)).mahalanobis(asked.astype(np.float64))


def _layer_option(layers: Sequence[int], at: int, strength: float) -> Option:
    return Option(f"layer {layers[at]}, C={strength:g}", place=at, strength=strength)


def _other_strengths(
    layers: Sequence[int], option: Option, strengths: Sequence[float]
) -> tuple[Option, ...]:
    others = (strength for strength in strengths if strength != option.strength)
    return tuple(_layer_option(layers, option.place, strength) for strength in others)


def _vectoriser(analyzer: str) -> Any:  # noqa: ANN401 - scikit-learn's
    from sklearn.feature_extraction.text import TfidfVectorizer

    if analyzer == "whole":
        return TfidfVectorizer(analyzer=_whole)  # pyright: ignore[reportArgumentType]
    if analyzer == "word":
        return TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]")
    assert analyzer == "char_wb", f"no analyzer {analyzer}"
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4))


def _whole(text: str) -> list[str]:
    return [text]
