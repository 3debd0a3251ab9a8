"""What tracks must beat: probes on residual streams and latents, words, exposure to the fact."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_array

from ghosttrack.detector.learners.classifiers import (
    Asked,
    Known,
    Labels,
    Learner,
    Option,
    Scores,
    fit_logistic,
    standardise,
)
from ghosttrack.detector.table import Table

TEXT_STRENGTH = 1.0
EMPTY = "(empty)"
WIDE = 300
"""Columns from which on Newton's steps cost more than those of L-BFGS."""
LEAST_ACTIVE = 5
"""Training rows in which a latent must be active to be looked at."""
LEAST_OF_EACH = 10
"""Training rows of each label from which on a relation has a say in `SubjectKnown`."""


class OfOneLayer(Learner):
    """Looks at one layer: chosen at the first strength, which the others challenge there."""

    layers: tuple[int, ...]
    """Block index of each layer."""
    strengths: ClassVar[tuple[float, ...]]
    label: ClassVar[str] = "layer {}, C={:g}"

    def options(self) -> tuple[Option, ...]:
        """Every layer at the first strength."""
        return tuple(self._option(at, self.strengths[0]) for at in range(len(self.layers)))

    def refine(self, option: Option) -> tuple[Option, ...]:
        """The best layer at the other strengths."""
        others = (strength for strength in self.strengths if strength != option.strength)
        return tuple(self._option(option.place, strength) for strength in others)

    def _option(self, at: int, strength: float) -> Option:
        label = self.label.format(self.layers[at], strength)
        return Option(label, place=at, strength=strength)


@dataclass(frozen=True)
class LinearProbe(OfOneLayer):
    """Logistic regression on the residual stream of one layer.

    Source: SAPLMA, Azaria and Mitchell 2023; linear.
    """

    residuals: Float[np.ndarray, "layer sample d_model"]
    layers: tuple[int, ...]
    strengths: ClassVar = (0.01, 0.001, 0.1)

    def fit_predict(
        self, option: Option, labels: Labels, train: Known, test: Asked, seed: int
    ) -> Scores:
        """Score by the log-odds."""
        layer = self.residuals[option.place]
        known, asked = standardise(layer[train], layer[test])
        solver = "newton-cholesky" if known.shape[1] < WIDE else "lbfgs"
        model = fit_logistic(known, labels[train], option.strength, solver)
        return model.decision_function(asked).astype(np.float64)


@dataclass(frozen=True)
class StateProbe(LinearProbe):
    """The same under a penalty fit for few answers and many dimensions."""

    strengths: ClassVar = (0.001, 0.0001, 0.01, 0.1)


@dataclass(frozen=True)
class Distance(OfOneLayer):
    """Distance of the residual stream of one layer from those of right answers.

    score = (h - m)' S^-1 (h - m), m and S of the training rows' right answers; if relative, less
    the same with m and S of all training rows. S is shrunk by Ledoit and Wolf.

    Source: Mahalanobis distance, Lee 2018; relative, Ren 2023.
    """

    residuals: Float[np.ndarray, "layer sample d_model"]
    layers: tuple[int, ...]
    relative: bool
    strengths: ClassVar = (1.0,)
    label: ClassVar = "layer {}"

    def fit_predict(
        self, option: Option, labels: Labels, train: Known, test: Asked, seed: int
    ) -> Scores:
        """Score by the distance; wrong answers serve as background alone."""
        layer = self.residuals[option.place]
        known, asked = standardise(layer[train], layer[test])
        distance = _distance(known[labels[train] == 0], asked)
        return distance - _distance(known, asked) if self.relative else distance


@dataclass(frozen=True)
class Latents(OfOneLayer):
    """Logistic regression with an L1 penalty on the SAE latents of one layer."""

    acts: tuple[csr_array, ...]
    layers: tuple[int, ...]
    strengths: ClassVar = (0.1, 0.03, 0.3, 1.0)

    def fit_predict(
        self, option: Option, labels: Labels, train: Known, test: Asked, seed: int
    ) -> Scores:
        """Score by the log-odds."""
        weights, intercept = self.weigh(option, labels, train, seed)
        return self.acts[option.place][test].astype(np.float64) @ weights + intercept

    def weigh(
        self, option: Option, labels: Labels, train: Known, seed: int
    ) -> tuple[Float[np.ndarray, " latent"], float]:
        """Weigh every latent, scaled to unit mean square and never centred; and the intercept."""
        from sklearn.linear_model import LogisticRegression

        known = csr_array(self.acts[option.place][train])
        assert known.shape is not None
        weights = np.zeros(known.shape[1])
        active = np.flatnonzero(np.bincount(known.indices) >= LEAST_ACTIVE)
        if not active.size:
            return weights, 0.0
        known = known[:, active].astype(np.float64)
        scale = 1 / np.sqrt(known.power(2).mean(axis=0))
        model = LogisticRegression(
            C=option.strength,
            l1_ratio=1.0,
            solver="liblinear",
            intercept_scaling=10,
            max_iter=1000,
            random_state=seed,
        )
        model.fit(known.multiply(scale).tocsr(), labels[train])
        weights[active] = model.coef_[0] * scale
        return weights, float(np.ravel(model.intercept_)[0])


@dataclass(frozen=True)
class Words(Learner):
    """Logistic regression on TF-IDF of texts: what the words alone give away."""

    texts: tuple[str, ...]
    analyzer: str
    """`word`, `char_wb` (parts of words), or `whole` (the text is one token)."""

    def options(self) -> tuple[Option, ...]:
        """One."""
        return (Option(f"TF-IDF ({self.analyzer}), C={TEXT_STRENGTH:g}", strength=TEXT_STRENGTH),)

    def fit_predict(
        self, option: Option, labels: Labels, train: Known, test: Asked, seed: int
    ) -> Scores:
        """Score by the log-odds; the vocabulary is that of the training rows."""
        from sklearn.linear_model import LogisticRegression

        vectors = _vectoriser(self.analyzer)
        known = vectors.fit_transform([self.texts[row] or EMPTY for row in train])
        asked = vectors.transform([self.texts[row] or EMPTY for row in test])
        model = LogisticRegression(C=option.strength, max_iter=1000).fit(known, labels[train])
        return model.decision_function(asked)


@dataclass(frozen=True)
class SubjectKnown(OfOneLayer):
    """Mean of the latents, at the subject's last token, that separate whatever is asked.

    score = mean_j sign_j z_j over the latents j of greatest max(min_r t_rj, min_r -t_rj), with t_rj
    the t-statistic of latent j, wrong against right answers, in training rows of relation r.

    Source: Ferrando 2024, "Do I know this entity?": the latent that separates best in the kind of
        entity where it separates worst.
    """

    acts: tuple[csr_array, ...]
    layers: tuple[int, ...]
    relations: Labels
    strengths: ClassVar = (16.0, 1.0, 4.0, 64.0)
    """How many of the best latents are averaged."""
    label: ClassVar = "layer {}, {:.0f} latents"

    def fit_predict(
        self, option: Option, labels: Labels, train: Known, test: Asked, seed: int
    ) -> Scores:
        """Score by the chosen latents, turned so that they rise with hallucination."""
        layer = self.acts[option.place]
        t = t_statistics(csr_array(layer[train]), labels[train], self.relations[train])
        rises, falls = t.min(axis=0), -t.max(axis=0)
        chosen = np.argsort(-np.maximum(rises, falls), kind="stable")[: int(option.strength)]
        sign = np.where(rises >= falls, 1.0, -1.0)[chosen]
        known, asked = (csr_array(layer[rows][:, chosen]).toarray() for rows in (train, test))
        return (standardise(known, asked)[1] @ sign / len(chosen)).astype(np.float64)


def exposure_table(exposures: Labels) -> Table | None:
    """Give log(1 + times the fact was seen); None where this is not known of every answer."""
    if (exposures < 0).any():
        return None
    return Table(("log_exposure",), np.log1p(exposures.astype(np.float64))[:, None])


def t_statistics(
    acts: csr_array, labels: Labels, relations: Labels
) -> Float[np.ndarray, "relation latent"]:
    """Compare wrong with right answers, latent by latent, in every relation with enough of both.

    Where no relation has enough, all rows count as one. A latent that does not vary has 0.
    """
    strata = 2 * relations.astype(np.int64) + labels
    n = np.bincount(strata, minlength=2 * int(relations.max()) + 2).reshape(-1, 2)
    judged = np.flatnonzero(n.min(axis=1) >= LEAST_OF_EACH)
    if not judged.size:
        strata, judged = labels.astype(np.int64), np.zeros(1, dtype=np.int64)
        n = np.bincount(labels, minlength=2).reshape(1, 2)
    entries = (np.ones(len(labels)), (strata, np.arange(len(labels))))
    member = csr_array(entries, shape=(n.size, len(labels)))
    n_of = np.maximum(n[judged], 1)[..., None]
    values = csr_array(acts.astype(np.float64))
    mean, square = (
        csr_array(member @ held).toarray().reshape(*n.shape, -1)[judged] / n_of
        for held in (values, values.power(2))
    )
    error = np.sqrt((np.maximum(square - mean**2, 0.0) / n_of).sum(axis=1))
    rise = mean[:, 1] - mean[:, 0]
    return np.divide(rise, error, out=np.zeros_like(rise), where=error > 1e-12)


def _distance(
    known: Float[np.ndarray, "known d_model"], asked: Float[np.ndarray, "asked d_model"]
) -> Float[np.ndarray, " asked"]:
    from sklearn.covariance import LedoitWolf

    return LedoitWolf().fit(known.astype(np.float64)).mahalanobis(asked.astype(np.float64))


def _vectoriser(analyzer: str) -> Any:  # noqa: ANN401 - scikit-learn's
    from sklearn.feature_extraction.text import TfidfVectorizer

    if analyzer == "whole":
        return TfidfVectorizer(analyzer=lambda text: [text])  # pyright: ignore[reportArgumentType]
    if analyzer == "word":
        return TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]")
    assert analyzer == "char_wb", f"no analyzer {analyzer}"
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4))
