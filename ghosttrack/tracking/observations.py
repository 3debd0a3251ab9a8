"""What the tracker sees: active latents of a batch of samples, layer by layer."""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

Directions = tuple[Float[np.ndarray, "d_sae d_model"], ...]
"""Unit decoder rows of every layer, in depth order; all layers share d_sae and d_model."""

Arrays = dict[str, Shaped[np.ndarray, "..."]]
"""Named plain arrays: the form in which tracking state is kept on disk."""


class Observations(NamedTuple):
    """Active latents at one token position of each sample.

    A latent stands at most once in a layer of a sample; slots may come in any order.
    """

    latents: Int[np.ndarray, "sample layer obs"]
    """Latent index in 0..d_sae-1; -1 is an empty slot."""
    magnitudes: Float[np.ndarray, "sample layer obs"]
    """Scale-free strength, standardised per layer; read only where the slot is not empty."""


HYPOTHESES = 3
"""Joint assignments that `murty` keeps unless told otherwise."""


class TrackerSettings(NamedTuple):
    """What is set by hand; every other number of the tracker is fitted on unlabelled text."""

    gate: float | None
    """Least cosine of two decoder directions that may be linked; None: each pair of layers its own,
    by what unrelated latents reach (`candidates.unrelated_gates`)."""
    max_misses: int
    """Layers that a track may coast without an observation before it dies."""
    confirm_hits: int
    """Observations that confirm a track."""
    association: Literal["hungarian", "greedy", "identity", "murty"]
    """Optimal assignment, best link first, the same latent index in every layer, or the best of
    several hypotheses about all layers."""
    hypotheses: int
    """Joint assignments that `murty` keeps per sample; no other association reads it."""
    clues: frozenset[Literal["coactivation", "magnitude"]]
    """What counts for a link besides its direction."""
