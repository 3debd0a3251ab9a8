"""Clusters: confirmed tracks that carry one direction, whatever latents they run through.

The direction of a track is the mean of its observations' unit directions. Two tracks of a sample
are neighbours where the cosine of their directions exceeds `Usual.near`, which two latents that are
seen together in one layer hardly ever do; a cluster is what chains of neighbours join. Clusters by
the candidate that tracks promote are the masses of family B.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from ghosttrack.detector.table import FRACTION, define
from ghosttrack.detector.tracks.attribution import Evidence
from ghosttrack.detector.tracks.track_table import Columns, TrackTable, group_entropy, ratio, tally

BLOCK_FLOATS = 2**24
"""Numbers of directions and cosines held at once: 64 MiB in fp32."""

STATISTICS = define(
    "clusters",
    ("n_clusters", FRACTION, +1, "clusters of confirmed tracks by direction, / those tracks"),
    ("cluster_share", FRACTION, -1, "heaviest cluster's share of the confirmed tracks' mass"),
    ("cluster_entropy", FRACTION, +1, "entropy of that mass over clusters, / log their number"),
)


def clusters(flat: TrackTable, evidence: Evidence) -> Columns:
    """Compute the family's columns by name; a sample without confirmed tracks has no cluster."""
    chosen = np.flatnonzero(flat.tracks.confirmed)
    sample = flat.tracks.sample[chosen]
    pairs = list(_neighbours(flat, evidence, chosen))
    a, b = np.concatenate(pairs, axis=1) if pairs else np.empty((2, 0), np.int64)
    graph = csr_array((np.ones(len(a), np.int8), (a, b)), shape=(len(chosen), len(chosen)))
    n_clusters, cluster = connected_components(graph, directed=False) if len(chosen) else (0, a)
    mass = tally(cluster, n_clusters, flat.per_track(flat.strength)[chosen])
    home = np.zeros(n_clusters, np.int64)
    home[cluster] = sample
    total = tally(home, flat.n_samples, mass)
    heaviest = np.zeros(flat.n_samples)
    np.maximum.at(heaviest, home, mass)
    return {
        "n_clusters": ratio(tally(home, flat.n_samples), tally(sample, flat.n_samples)),
        "cluster_share": ratio(heaviest, total),
        "cluster_entropy": group_entropy(home, mass, flat.n_samples),
    }


def _neighbours(
    flat: TrackTable, evidence: Evidence, chosen: Int[np.ndarray, " chosen"]
) -> Iterator[Int[np.ndarray, "2 pair"]]:
    """Yield pairs of neighbours among the chosen tracks, block by block of samples."""
    sample = flat.tracks.sample[chosen]
    first = np.searchsorted(sample, np.arange(flat.n_samples + 1))
    n_most = int(np.diff(first).max(initial=0))
    d_model = evidence.directions.shape[2]
    size = max(1, BLOCK_FLOATS // max(1, n_most * (n_most + 2 * d_model)))
    for start in range(0, flat.n_samples, size):
        stop = min(start + size, flat.n_samples)
        rows = slice(first[start], first[stop])
        place = np.arange(rows.start, rows.stop) - first[sample[rows]]
        padded = np.zeros((stop - start, n_most, d_model), np.float32)
        padded[sample[rows] - start, place] = _directions(flat, evidence, chosen[rows])
        one, a, b = np.nonzero(padded @ padded.swapaxes(1, 2) > evidence.near)
        pairs = first[start + one] + np.stack([a, b])
        yield pairs[:, a < b]


def _directions(
    flat: TrackTable, evidence: Evidence, chosen: Int[np.ndarray, " chosen"]
) -> Float[np.ndarray, "chosen d_model"]:
    """Mean direction of each chosen track, as a unit vector."""
    number = np.full(len(flat.tracks), -1)
    number[chosen] = np.arange(len(chosen))
    obs = np.flatnonzero(number[flat.track] >= 0)
    sample, layer, slot = flat.sample[obs], flat.layer[obs], flat.slot[obs]
    latent = evidence.observed.observations.latents[sample, layer, slot]
    n_layers, d_sae, d_model = evidence.directions.shape
    member = csr_array(
        (np.ones(len(obs), np.float32), (number[flat.track[obs]], layer * d_sae + latent)),
        shape=(len(chosen), n_layers * d_sae),
    )
    total = member @ evidence.directions.reshape(-1, d_model)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return total / np.where(length > 0, length, 1.0)
