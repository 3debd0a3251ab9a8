"""Family G, novelty: how far a position lies from the text that the instruments know.

An SAE reconstructs badly what it was seldom trained on, and so these numbers also tell which
entities its corpus covered: read them with that in mind.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from ghosttrack.detector.table import POSITIVE, REAL, define
from ghosttrack.detector.tracks.observe import Latents, Residuals, blocks
from ghosttrack.sae.bank import Bank

NEAR_TOKENS, NEAR_QUANTILE = 256, 0.999
"""Positions of text whose pairs of observations are compared, and what share of the pairs is less
alike than directions that count as one."""


class Usual(NamedTuple):
    """What unlabelled text is like."""

    centre: Float[np.ndarray, "layer d_model"]
    """Mean residual."""
    fvu: Float[np.ndarray, "2 layer"]
    """Mean and standard deviation over positions, and so the next."""
    n_positive: Float[np.ndarray, "2 layer"]
    rarity: Float[np.ndarray, "layer d_sae"]
    """-log of the share of positions at which a latent is observed."""
    written: Float[np.ndarray, "2 layer"]
    """Mean and standard deviation over positions of `written_lengths`."""
    near: Float[np.ndarray, ""]
    """Cosine that the directions of two latents observed together in a layer hardly ever exceed."""


def fit_usual(bank: Bank, residuals: Residuals, latents: Latents) -> Usual:
    """Measure unlabelled text; `latents` are the observations of the same residuals."""
    centre = residuals.mean(axis=1)
    fvu, n_positive = _measure(bank, residuals, centre)
    count = [np.bincount(one[one >= 0], minlength=bank.d_sae) for one in latents.swapaxes(0, 1)]
    rarity = -np.log((np.array(count) + 0.5) / (len(latents) + 1))
    written = _moments(written_lengths(residuals))
    return Usual(centre, _moments(fvu), _moments(n_positive), rarity, written, _near(bank, latents))


STATISTICS = define(
    "novelty",
    ("fvu", REAL, +1, "mean over layers of the z of the bank's unexplained share, on text"),
    ("fvu_max", REAL, +1, "the greatest of them"),
    ("l0_z", REAL, 0, "mean over layers of the z of the number of positive pre-activations"),
    ("rarity", POSITIVE, +1, "mean -log frequency on text of the observed latents"),
)


def novelty(
    bank: Bank, residuals: Residuals, latents: Latents, usual: Usual
) -> dict[str, Float[np.ndarray, " sample"]]:
    """Compute the family's columns by name."""
    fvu, n_positive = _measure(bank, residuals, usual.centre)
    fvu, n_positive = (
        (values - mean) / deviation
        for values, (mean, deviation) in ((fvu, usual.fvu), (n_positive, usual.n_positive))
    )
    is_there = latents >= 0
    rarity = np.where(is_there, usual.rarity[np.arange(latents.shape[1])[:, None], latents], 0.0)
    n_there = np.maximum(is_there.sum(axis=(1, 2)), 1)
    return {
        "fvu": fvu.mean(axis=1),
        "fvu_max": fvu.max(axis=1),
        "l0_z": n_positive.mean(axis=1),
        "rarity": rarity.sum(axis=(1, 2)) / n_there,
    }


def written_lengths(residuals: Residuals) -> Float[np.ndarray, "sample layer"]:
    """Length of what was written since the layer before; at the first, of all that is there."""
    steps = np.diff(residuals.astype(np.float64), axis=0, prepend=0.0)
    return np.linalg.norm(steps, axis=2).T


def _near(bank: Bank, latents: Latents) -> Float[np.ndarray, ""]:
    """Take a high quantile of the cosines of latents that share position and layer."""
    chosen = latents[:: -(-len(latents) // NEAR_TOKENS)]
    one, other = np.triu_indices(latents.shape[2], k=1)
    found = [np.zeros(1)]
    for layer, rows in enumerate(bank.directions.detach().float().cpu().numpy()):
        unit = rows[chosen[:, layer]]
        both = (chosen[:, layer, one] >= 0) & (chosen[:, layer, other] >= 0)
        found.append((unit @ unit.swapaxes(1, 2))[:, one, other][both])
    return np.array(np.quantile(np.concatenate(found), NEAR_QUANTILE))


@torch.no_grad()
def _measure(
    bank: Bank, residuals: Residuals, centre: Float[np.ndarray, "layer d_model"]
) -> tuple[Float[np.ndarray, "sample layer"], Float[np.ndarray, "sample layer"]]:
    """Share of each residual that the bank misses, and the number of positive pre-activations."""
    middle = torch.from_numpy(centre)[:, None].to(bank.W_enc.device)
    fvu, n_positive = [], []
    for block in blocks(bank, residuals):
        whole = (block - middle).square().sum(dim=-1).clamp_min(torch.finfo(block.dtype).tiny)
        fvu.append((block - bank(block)).square().sum(dim=-1) / whole)
        n_positive.append((bank.pre_acts(block) > 0).sum(dim=-1))
    missed, counted = (torch.cat(part, 1).T.double().cpu().numpy() for part in (fvu, n_positive))
    return missed, counted


def _moments(values: Float[np.ndarray, "token layer"]) -> Float[np.ndarray, "2 layer"]:
    """Mean and standard deviation per layer; 1 where nothing varies."""
    deviation = values.std(axis=0)
    return np.stack([values.mean(axis=0), np.where(deviation > 0, deviation, 1.0)])
