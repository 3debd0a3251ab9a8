"""Latents that tell known subjects from unknown ones, whatever is asked; free of torch."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from ghosttrack.detector.learners.classifiers import Asked, Known, Option, standardise

N_LATENTS = (1, 4, 16, 64)
"""How many of the best latents are averaged; inner folds choose."""
LEAST_OF_EACH = 10
"""Training rows of each label from which on a relation has a say."""


class SubjectKnown(NamedTuple):
    """Mean of the latents, at the subject's last token, that separate whatever is asked.

    score = mean_j sign_j z_j over the latents j of greatest max(min_r t_rj, min_r -t_rj), with t_rj
    the t-statistic of latent j, wrong against right answers, in training rows of relation r.

    Source: Ferrando 2024, "Do I know this entity?": the latent that separates best in the kind of
        entity where it separates worst.
    """

    acts: tuple[csr_array, ...]
    layers: tuple[int, ...]
    relations: Int[np.ndarray, " sample"]

    def options(self) -> tuple[Option, ...]:
        """Every layer at a middle number of latents."""
        return tuple(self._option(at, 16) for at in range(len(self.layers)))

    def refine(self, option: Option) -> tuple[Option, ...]:
        """The best layer at the other numbers."""
        others = (n for n in N_LATENTS if n != option.strength)
        return tuple(self._option(option.place, n) for n in others)

    def fit_predict(
        self,
        option: Option,
        labels: Int[np.ndarray, " sample"],
        train: Known,
        test: Asked,
        seed: int,
    ) -> Float[np.ndarray, " asked"]:
        """Score by the chosen latents, turned so that they rise with hallucination."""
        layer = self.acts[option.place]
        t = t_statistics(csr_array(layer[train]), labels[train], self.relations[train])
        rises, falls = t.min(axis=0), -t.max(axis=0)
        chosen = np.argsort(-np.maximum(rises, falls), kind="stable")[: int(option.strength)]
        sign = np.where(rises >= falls, 1.0, -1.0)[chosen]
        known, asked = (csr_array(layer[rows][:, chosen]).toarray() for rows in (train, test))
        return (standardise(known, asked)[1] @ sign / len(chosen)).astype(np.float64)

    def _option(self, at: int, n_latents: int) -> Option:
        label = f"layer {self.layers[at]}, {n_latents} latents"
        return Option(label, place=at, strength=n_latents)


def t_statistics(
    acts: csr_array, labels: Int[np.ndarray, " sample"], relations: Int[np.ndarray, " sample"]
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
