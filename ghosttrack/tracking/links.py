"""The link graph: which latents of a deeper layer can carry on a latent's direction."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ghosttrack.tracking.observations import Arrays, Directions

BLOCK_VALUES = 2**22
"""Cosines held at once while the graph is made (16 MB of float32)."""


@dataclass(frozen=True)
class LinkGraph:
    """Best candidates of every latent at the next layers, computed once per bank.

    Row p of the arrays is the pair (layer, gap) = `pairs[p]`: sources live at `layer`, candidates
    at `layer + gap`, in order of falling cosine.
    """

    latents: Int[np.ndarray, "pair d_sae candidate"]
    cosines: Float[np.ndarray, "pair d_sae candidate"]
    n_layers: int
    max_gap: int

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(layer, gap) of every row, nearest layers first."""
        return layer_pairs(self.n_layers, self.max_gap)

    @property
    def d_sae(self) -> int:
        """Latents per layer."""
        return self.latents.shape[1]

    def pair(self, layer: int, gap: int) -> int:
        """Row of the arrays that holds the candidates of `layer` at `layer + gap`."""
        assert 1 <= gap <= self.max_gap, f"gap {gap} is outside 1..{self.max_gap}"
        assert 0 <= layer < self.n_layers - gap, f"layer {layer} has nothing {gap} layers below"
        return sum(self.n_layers - shorter for shorter in range(1, gap)) + layer

    def candidates(
        self, layer: int, gap: int
    ) -> tuple[Int[np.ndarray, "d_sae candidate"], Float[np.ndarray, "d_sae candidate"]]:
        """Latents at `layer + gap` and their cosines, for each latent of `layer`."""
        row = self.pair(layer, gap)
        return self.latents[row], self.cosines[row]

    def arrays(self) -> Arrays:
        """Plain arrays that `from_arrays` reads back."""
        shape = np.array([self.n_layers, self.max_gap])
        return {"latents": self.latents, "cosines": self.cosines, "shape": shape}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "LinkGraph":
        """Inverse of `arrays`."""
        n_layers, max_gap = (int(value) for value in arrays["shape"])
        return cls(arrays["latents"], arrays["cosines"], n_layers, max_gap)


def layer_pairs(n_layers: int, max_gap: int) -> list[tuple[int, int]]:
    """Every (layer, gap) with `layer + gap` inside the model, nearest layers first."""
    return [
        (layer, gap) for gap in range(1, max_gap + 1) for layer in range(max(n_layers - gap, 0))
    ]


def link_graph(directions: Directions, max_gap: int, n_candidates: int = 8) -> LinkGraph:
    """Find the nearest latents by decoder cosine, in bounded memory.

    Args:
        directions: Unit rows per layer.
        max_gap: Most layers between two observations of a track: `max_misses + 1`.
        n_candidates: Candidates per latent and pair of layers; all of them where d_sae is smaller.
    """
    pairs = layer_pairs(len(directions), max_gap)
    d_sae = directions[0].shape[0]
    width = min(n_candidates, d_sae)
    latents = np.empty((len(pairs), d_sae, width), np.int32)
    cosines = np.empty((len(pairs), d_sae, width), np.float32)
    rows = max(1, BLOCK_VALUES // d_sae)
    for row, (layer, gap) in enumerate(pairs):
        targets = np.ascontiguousarray(directions[layer + gap].T, dtype=np.float32)
        for start in range(0, d_sae, rows):
            block = slice(start, start + rows)
            similarity = directions[layer][block].astype(np.float32) @ targets
            latents[row, block], cosines[row, block] = _strongest(similarity, width)
    return LinkGraph(latents, cosines, len(directions), max_gap)


def identity_graph(directions: Directions, max_gap: int) -> LinkGraph:
    """Link every latent to the same index only: dictionaries that are shared or warm-started."""
    pairs = layer_pairs(len(directions), max_gap)
    d_sae = directions[0].shape[0]
    latents = np.broadcast_to(np.arange(d_sae, dtype=np.int32)[:, None], (len(pairs), d_sae, 1))
    cosines = [
        np.einsum("i d, i d -> i", directions[layer], directions[layer + gap])
        for layer, gap in pairs
    ]
    stacked = np.reshape(cosines, (len(pairs), d_sae, 1)).astype(np.float32)
    return LinkGraph(latents.copy(), stacked, len(directions), max_gap)


def _strongest(
    similarity: Float[np.ndarray, "rows d_sae"], width: int
) -> tuple[Int[np.ndarray, "rows width"], Float[np.ndarray, "rows width"]]:
    """Columns of the `width` largest values of each row, largest first, and the values."""
    columns = np.argpartition(similarity, -width, axis=1)[:, -width:]
    values = np.take_along_axis(similarity, columns, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return (
        np.take_along_axis(columns, order, axis=1).astype(np.int32),
        np.take_along_axis(values, order, axis=1),
    )
