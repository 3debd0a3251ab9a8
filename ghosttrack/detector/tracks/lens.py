"""Family A, commitment: when and how firmly the logit lens settles on the emitted token."""

import numpy as np
from jaxtyping import Float

from ghosttrack.detector.table import FRACTION, POSITIVE, REAL, Table, define
from ghosttrack.detector.tracks.track_table import layers_within
from ghosttrack.models.readings import Lens

LENS_STATISTICS = define(
    "commitment",
    ("commit_depth", FRACTION, +1, "layers before the emitted token is lens top-1 for good, / L"),
    ("commit_jump", REAL, -1, "greatest one-layer rise of the emitted token's lens log-prob"),
    ("late_margin", POSITIVE, -1, "mean late log-ratio of the lens's two best tokens"),
    ("rank_area", FRACTION, +1, "mean log(1 + lens rank) of the emitted token, / log d_vocab"),
    ("lens_flips", FRACTION, +1, "changes of lens top-1 in the last half, / (L/2)"),
    ("settle_kl", POSITIVE, +1, "mean KL(final || lens) over the last third"),
)
"""Columns of the table `lens`, in its order."""


def lens_tables(lens: Lens, d_vocab: int) -> dict[str, Table]:
    """Condense the lens, and lay it out as it is: the tables by their names."""
    return {"lens": commitment(lens, d_vocab), "lens_trajectory": trajectory(lens)}


def commitment(lens: Lens, d_vocab: int) -> Table:
    """Compute the family; the last block's lens is the model's own output distribution."""
    n_layers = lens.logprobs.shape[1]
    depths = np.arange(1, n_layers + 1) / n_layers
    steps = np.diff(lens.logprobs, axis=1, prepend=lens.logprobs[:, :1])
    last_half = layers_within(depths, 0.5, 1.0)
    flips = np.diff(lens.top1, axis=1, prepend=lens.top1[:, :1]) != 0
    columns = {
        "commit_depth": _commit_depth(lens),
        "commit_jump": steps[:, 1:].max(axis=1) if n_layers > 1 else steps[:, 0],
        "late_margin": lens.margins[:, layers_within(depths, 0.75, 1.0)].mean(axis=1),
        "rank_area": np.log1p(lens.ranks).mean(axis=1) / np.log(d_vocab),
        "lens_flips": flips[:, last_half].mean(axis=1),
        "settle_kl": lens.kl[:, layers_within(depths, 2 / 3, 1.0)].mean(axis=1),
    }
    return Table.of(LENS_STATISTICS, columns)


def trajectory(lens: Lens) -> Table:
    """Lay out the emitted token's log-probability and rank and the best one's probability, as is.

    The plain baseline of what `commitment` condenses: a column per layer.
    """
    layers = range(lens.logprobs.shape[1])
    parts = {"logprob": lens.logprobs, "rank": np.log1p(lens.ranks), "best": np.exp(lens.best)}
    names = tuple(f"{name}_{layer}" for name in parts for layer in layers)
    return Table(names, np.concatenate(list(parts.values()), axis=1).astype(np.float64))


def _commit_depth(lens: Lens) -> Float[np.ndarray, " sample"]:
    """Count the layers before the emitted token is best for good, over all layers."""
    is_best = lens.ranks == 0
    settled = np.logical_and.accumulate(is_best[:, ::-1], axis=1)
    return 1.0 - settled.sum(axis=1) / is_best.shape[1]
