"""Which latents of a deeper layer can carry a latent's direction on, and which are there."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int16, Int32

from ghosttrack.tracking.observations import Directions, TrackerSettings

BLOCK_VALUES = 2**22
"""Cosines held at once while candidates are found (16 MB of float32)."""
UNRELATED_SHARE, MOST_DRAWN = 0.01, 1024
"""Share of the latents whose best unrelated one passes a gate that is found by itself, and the
latents of a layer at most by which it is found."""
TABLE_VALUES = 2**20
"""Entries of a slot table (2 MB of int16): about what one core's cache holds."""


@dataclass(frozen=True)
class Candidates:
    """Best candidates of every latent at the next layers, computed once per bank.

    Row p of the arrays is the pair (layer, gap) = `pairs[p]`: sources live at `layer`, candidates
    at `layer + gap`, in order of falling cosine.
    """

    latents: Int[np.ndarray, "pair d_sae candidate"]
    cosines: Float[np.ndarray, "pair d_sae candidate"]
    gates: Float[np.ndarray, "pair"]
    """Least cosine of a link where the settings leave it open, by `unrelated_gates`; else NaN."""
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
        return self.pairs.index((layer, gap))

    def open_targets(self, settings: TrackerSettings) -> Int32[np.ndarray, "pair d_sae candidate"]:
        """Candidates that pass the gate; d_sae, a latent that is never there, stands for others.

        The identity association has no gate: there the index decides, not the direction.
        """
        if settings.association == "identity":
            assert self.latents.shape[2] == 1, "identity association needs identity_candidates"
            return self.latents
        gate = self.gates[:, None, None] if settings.gate is None else settings.gate
        return np.where(self.cosines >= gate, self.latents, np.int32(self.d_sae))

    def partners(self, settings: TrackerSettings) -> float:
        """Share of the latents that some latent of the next layer looked at may carry on."""
        nearest = self.open_targets(settings)[: self.n_layers - 1] < self.d_sae
        return float(nearest.any(axis=2).mean()) if nearest.size else 0.0


def layer_pairs(n_layers: int, max_gap: int) -> list[tuple[int, int]]:
    """Every (layer, gap) with `layer + gap` inside the model, nearest layers first."""
    return [
        (layer, gap) for gap in range(1, max_gap + 1) for layer in range(max(n_layers - gap, 0))
    ]


def nearest_candidates(directions: Directions, max_gap: int, n_candidates: int = 8) -> Candidates:
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
            columns = np.argpartition(similarity, -width, axis=1)[:, -width:]
            values = np.take_along_axis(similarity, columns, axis=1)
            falling = np.argsort(-values, axis=1, kind="stable")
            latents[row, block] = np.take_along_axis(columns, falling, axis=1)
            cosines[row, block] = np.take_along_axis(values, falling, axis=1)
    return Candidates(latents, cosines, np.full(len(pairs), np.nan), len(directions), max_gap)


def unrelated_gates(directions: Directions, max_gap: int) -> Float[np.ndarray, "pair"]:
    """Give the cosine that the best of unrelated latents rarely reaches, for every pair of layers.

    Unrelated ones are as many directions as the deeper layer has, drawn with the mean and the
    covariance of its directions: nothing of the upper layer is in them. Their best cosine is beyond
    the gate for `UNRELATED_SHARE` of the upper layer's latents.
    """
    rng = np.random.default_rng(0)
    drawn = [_drawn_like(rows, rng) for rows in directions]
    some = [rows[rng.permutation(len(rows))[:MOST_DRAWN]].astype(np.float32) for rows in directions]
    best = [
        (some[layer] @ drawn[layer + gap].T).max(axis=1)
        for layer, gap in layer_pairs(len(directions), max_gap)
    ]
    return np.array([np.quantile(one, 1 - UNRELATED_SHARE) for one in best])


def _drawn_like(
    rows: Float[np.ndarray, "d_sae d_model"], rng: np.random.Generator
) -> Float[np.ndarray, "d_sae d_model"]:
    """Draw unit rows from the normal distribution that has the mean and covariance of these."""
    mean = rows.mean(axis=0, dtype=np.float64)
    spread, axes = np.linalg.eigh(np.cov(rows, rowvar=False).astype(np.float64))
    factor = (axes * np.sqrt(np.maximum(spread, 0.0))).astype(np.float32)
    drawn = rng.standard_normal(rows.shape, np.float32) @ factor.T + mean.astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def identity_candidates(directions: Directions, max_gap: int) -> Candidates:
    """Take the same index as the only candidate: dictionaries that are shared or warm-started."""
    pairs = layer_pairs(len(directions), max_gap)
    shape = (len(pairs), len(directions[0]), 1)
    cosines = [
        np.einsum("i d, i d -> i", directions[layer], directions[layer + gap])
        for layer, gap in pairs
    ]
    latents = np.broadcast_to(np.arange(shape[1], dtype=np.int32)[:, None], shape).copy()
    stacked = np.reshape(cosines, shape).astype(np.float32)
    return Candidates(latents, stacked, np.full(len(pairs), np.nan), len(directions), max_gap)


class Hits(NamedTuple):
    """Candidates that are there: source and target of a possible link."""

    source: Int[np.ndarray, "hit"]
    """Number of the observation in its layer: sample * slots + slot."""
    target: Int[np.ndarray, "hit"]
    """The same in the deeper layer."""
    edge: Int[np.ndarray, "hit"]
    """Place of the link in the flattened `[d_sae candidate]` arrays of its pair of layers."""


def chunks(n_samples: int, d_sae: int) -> Iterator[slice]:
    """Cut a batch so that a slot table of every part stays in the cache."""
    size = max(1, TABLE_VALUES // (d_sae + 1))
    for start in range(0, n_samples, size):
        yield slice(start, min(start + size, n_samples))


def slot_table(
    latents: Int[np.ndarray, "sample obs"], d_sae: int
) -> Int16[np.ndarray, "sample column"]:
    """Slot of every latent in every sample, -1 where it is not active; column d_sae is all -1."""
    assert latents.shape[1] < 2**15, "a slot number must fit 16 bits"
    table = np.full((len(latents), d_sae + 1), -1, np.int16)
    sample, slot = np.nonzero(latents >= 0)
    table[sample, latents[sample, slot]] = slot
    return table


def find(
    latents: Int[np.ndarray, "sample obs"],
    is_live: Bool[np.ndarray, "sample obs"],
    targets: Int32[np.ndarray, "d_sae candidate"],
    table: Int16[np.ndarray, "sample column"],
) -> Hits:
    """Look the candidates of every live source up in the slot table of the deeper layer."""
    n_slots, width = latents.shape[1], targets.shape[1]
    used = int((targets < len(targets)).any(axis=0).sum())
    source = np.flatnonzero(is_live)
    latent = latents.ravel()[source]
    row = source // n_slots
    wanted = targets[:, :used][latent] + (row * table.shape[1])[:, None]
    slot = table.ravel().take(wanted.ravel())
    hit = np.flatnonzero(slot >= 0)
    number = hit // max(used, 1)
    return Hits(
        source=source[number],
        target=row[number] * n_slots + slot[hit],
        edge=latent[number] * width + hit % max(used, 1),
    )
