"""Find a latent's candidates among the observations of a deeper layer, many samples at once."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int16, Int32

from ghosttrack.tracking.links import LinkGraph
from ghosttrack.tracking.observations import TrackerSettings

TABLE_VALUES = 2**20
"""Entries of a slot table (2 MB of int16): about what one core's cache holds."""


class Hits(NamedTuple):
    """Candidates that are there: source and target of a possible link."""

    source: Int[np.ndarray, "hit"]
    """Number of the observation in its layer: sample * slots + slot."""
    target: Int[np.ndarray, "hit"]
    """The same in the deeper layer."""
    edge: Int[np.ndarray, "hit"]
    """Place of the link in the flattened `[d_sae candidate]` arrays of its pair of layers."""


def open_targets(
    links: LinkGraph, settings: TrackerSettings
) -> Int32[np.ndarray, "pair d_sae candidate"]:
    """Candidates that pass the gate; d_sae, a latent that is never there, stands for the others.

    The identity association has no gate: there the index decides, not the direction.
    """
    if settings.association == "identity":
        assert links.latents.shape[2] == 1, "the identity association needs an identity_graph"
        return links.latents
    return np.where(links.cosines >= settings.gate, links.latents, np.int32(links.d_sae))


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
