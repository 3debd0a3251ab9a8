"""Learners that others published as detectors, but linear ones: those are in `baselines.py`."""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from ghosttrack.detector.learners.baselines import OfOneLayer, StateProbe
from ghosttrack.detector.learners.classifiers import (
    Asked,
    Known,
    Labels,
    Option,
    Scores,
    standardise,
)

UNITS = (256, 128, 64)
N_PARTS = 8
"""Parts of equal number that pre-activations fall into, for their information on the label."""
LEAST_PROB = 1e-12


@dataclass(frozen=True)
class Perceptron(OfOneLayer):
    """Multilayer perceptron of `UNITS` on the residual stream of one layer.

    The strength is the number of epochs. Adam in batches of 32, as both sources train it.

    Source: SAPLMA, Azaria and Mitchell 2023; MIND, Su 2024, which joins two streams.
    """

    residuals: Float[np.ndarray, "layer sample d_model"]
    layers: tuple[int, ...]
    strengths: ClassVar = (5.0, 20.0)
    label: ClassVar = "layer {}, {:.0f} epochs"

    def fit_predict(
        self, option: Option, labels: Labels, train: Known, test: Asked, seed: int
    ) -> Scores:
        """Score by the log-odds."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        layer = self.residuals[option.place]
        known, asked = standardise(layer[train], layer[test])
        model = MLPClassifier(
            hidden_layer_sizes=UNITS,
            alpha=1e-5,
            batch_size=min(32, len(train)),  # pyright: ignore[reportArgumentType]
            max_iter=int(option.strength),
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # few epochs are the method
            model.fit(known, labels[train])
        prob = np.asarray(model.predict_proba(asked), dtype=np.float64).clip(LEAST_PROB)
        return np.log(prob[:, 1]) - np.log(prob[:, 0])


@dataclass(frozen=True)
class EntropyProbe(StateProbe):
    """Logistic regression that tells high from low semantic entropy, wrong from right unseen.

    The entropies of training rows are cut in two where the two parts vary least. Labels of answers
    choose layer and penalty alone. An answer is only sampled where the probe learns.

    Source: semantic entropy probes, Kossen 2024.
    """

    entropies: Float[np.ndarray, " sample"]

    def fit_predict(
        self, option: Option, labels: Labels, train: Known, test: Asked, seed: int
    ) -> Scores:
        """Score by the log-odds of high entropy."""
        is_high = (self.entropies > best_cut(self.entropies[train])).astype(np.int64)
        if len(set(is_high[train].tolist())) < 2:
            return np.zeros(len(test))
        return super().fit_predict(option, is_high, train, test, seed)


@dataclass(frozen=True)
class AdditiveLatents(OfOneLayer):
    """Sum of functions of one latent's pre-activation each.

    logit = c + sum_j f_j(x w_j + b_j) over those latents, as many as the strength says, that tell
    most of the label in training rows by themselves; f_j are sums of small trees.

    Source: RAGLens, Xiong 2025: mutual information and a generalised additive model, there of
    latents' greatest value over an answer's tokens.
    """

    residuals: Float[np.ndarray, "layer sample d_model"]
    layers: tuple[int, ...]
    weights: Float[np.ndarray, "layer d_model latent"]
    biases: Float[np.ndarray, "layer latent"]
    strengths: ClassVar = (64.0, 16.0, 256.0)
    label: ClassVar = "layer {}, {:.0f} latents"

    def fit_predict(
        self, option: Option, labels: Labels, train: Known, test: Asked, seed: int
    ) -> Scores:
        """Score by the log-odds."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        layer, at = self.residuals[option.place], option.place
        known, asked = (layer[rows] @ self.weights[at] + self.biases[at] for rows in (train, test))
        told = information(known, labels[train])
        chosen = np.argsort(-told, kind="stable")[: int(option.strength)]
        model = HistGradientBoostingClassifier(
            max_iter=100,
            max_leaf_nodes=4,
            max_bins=31,
            interaction_cst="no_interactions",
            early_stopping=False,  # pyright: ignore[reportArgumentType]
            random_state=seed,
        ).fit(known[:, chosen], labels[train])
        return np.ravel(model.decision_function(asked[:, chosen])).astype(np.float64)


def best_cut(values: Float[np.ndarray, " known"]) -> float:
    """Find the greatest number of the lower part, where the two parts vary least.

    >>> best_cut(np.array([3.0, 0.0, 0.2, 3.1]))
    0.2
    """
    ordered = np.sort(values[np.isfinite(values)])
    n = np.arange(1, len(ordered))
    sums = np.cumsum(ordered)
    if not len(n):
        return 0.0
    # what the means explain, the greater the less is left to vary
    explained = sums[:-1] ** 2 / n + (sums[-1] - sums[:-1]) ** 2 / n[::-1]
    return float(ordered[int(np.argmax(np.where(np.diff(ordered) > 0, explained, -np.inf)))])


def information(
    values: Float[np.ndarray, "known column"], labels: Int[np.ndarray, " known"]
) -> Float[np.ndarray, " column"]:
    """Measure each column's mutual information with the label, in nats, by parts of equal number.

    >>> labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    >>> values = np.column_stack([labels, 1 - labels, [0.0, 1.0] * 4])
    >>> information(values, labels).round(3).tolist()
    [0.693, 0.693, 0.0]
    """
    from scipy.special import rel_entr
    from scipy.stats import rankdata

    part = ((rankdata(values, "min", axis=0) - 1) * N_PARTS // len(labels)).astype(np.int64)
    joint = np.stack(
        [[((part == at) & (labels == one)[:, None]).mean(axis=0) for one in (0, 1)]
         for at in range(N_PARTS)]
    )  # fmt: skip
    alone = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    return rel_entr(joint, alone).sum(axis=(0, 1))
