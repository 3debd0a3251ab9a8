"""Latents that tell known subjects from unknown ones, whatever is asked; free of torch."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from ghosttrack.detector.classifiers import Asked, Known, Option, standardise

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
        known, asked = (layer[rows][:, chosen].toarray() for rows in (train, test))
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
    n_relations = int(relations.max()) + 1
    n = np.bincount(2 * relations + labels, minlength=2 * n_relations).reshape(-1, 2)
    judged = (n >= LEAST_OF_EACH).all(axis=1)
    if not judged.any():
        relations, judged = np.zeros_like(relations), np.ones(1, dtype=bool)
        n = np.bincount(labels, minlength=2).reshape(1, 2)
    n = np.maximum(n[judged], 1)[..., None]
    member = csr_array(
        (np.ones(len(labels)), (2 * relations + labels, np.arange(len(labels)))),
        shape=(2 * len(judged), len(labels)),
    )
    acts = acts.astype(np.float64)
    shape = (len(judged), 2, acts.shape[1])
    mean, square = (
        (member @ held).toarray().reshape(shape)[judged] / n for held in (acts, acts.power(2))
    )
    error = np.sqrt((np.maximum(square - mean**2, 0.0) / n).sum(axis=1))
    rise = mean[:, 1] - mean[:, 0]
    return np.divide(rise, error, out=np.zeros_like(rise), where=error > 1e-12)
