"""Tracked observations of a batch as flat columns, and the sums that every family needs."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.special import entr

from ghosttrack.detector.tracks.attribution import Evidence
from ghosttrack.tracking.tracks import Tracks

PerSample = Float[np.ndarray, " sample"]
PerLayer = Float[np.ndarray, "sample layer"]
PerTrack = Float[np.ndarray, " track"]
PerObs = Float[np.ndarray, " obs"]
Columns = Mapping[str, PerSample]
"""Statistics by name."""


class TrackTable(NamedTuple):
    """One row per tracked observation, samples ascending, layers ascending within a sample."""

    n_samples: int
    depths: Float[np.ndarray, " layer"]
    tracks: Tracks
    sample: Int[np.ndarray, " obs"]
    layer: Int[np.ndarray, " obs"]
    slot: Int[np.ndarray, " obs"]
    """Column of the observation in its layer."""
    track: Int[np.ndarray, " obs"]
    strength: Float[np.ndarray, " obs"]
    """Scale-free, at least 0."""

    @property
    def n_layers(self) -> int:
        """Layers of the bank."""
        return len(self.depths)

    @property
    def place(self) -> Int[np.ndarray, " obs"]:
        """Number of each observation's sample and layer."""
        return self.sample * self.n_layers + self.layer

    def per_layer(self, weights: Shaped[np.ndarray, " obs"] | None = None) -> PerLayer:
        """Add up `weights` (1 each where None) by sample and layer."""
        sums = tally(self.place, self.n_samples * self.n_layers, weights)
        return sums.reshape(self.n_samples, self.n_layers)

    def per_sample(self, weights: Shaped[np.ndarray, " obs"]) -> PerSample:
        """Add up observations' `weights` by sample."""
        return tally(self.sample, self.n_samples, weights)

    def per_track(self, weights: Shaped[np.ndarray, " obs"]) -> PerTrack:
        """Add up observations' `weights` by track."""
        return tally(self.track, len(self.tracks.sample), weights)

    def tracks_per_sample(self, weights: Shaped[np.ndarray, " track"]) -> PerSample:
        """Add up tracks' `weights` by sample."""
        return tally(self.tracks.sample, self.n_samples, weights)

    def strength_in_tracks(self) -> tuple[PerTrack, PerTrack]:
        """Mean strength of every track, and its standard deviation over that mean."""
        n = self.per_track(np.ones(len(self.track)))
        mean = ratio(self.per_track(self.strength), n)
        variance = ratio(self.per_track((self.strength - mean[self.track]) ** 2), n)
        return mean, ratio(np.sqrt(variance), mean)


def survey(evidence: Evidence, tracks: Tracks) -> TrackTable:
    """Lay the tracked observations out flat; those outside every track are left out."""
    sample, layer, slot = np.nonzero(tracks.track_of >= 0)
    strength = evidence.observed.strengths[sample, layer, slot].astype(np.float64)
    track = tracks.track_of[sample, layer, slot]
    n_samples = len(tracks.track_of)
    return TrackTable(n_samples, evidence.depths, tracks, sample, layer, slot, track, strength)


def tally(
    group: Int[np.ndarray, " item"],
    n_groups: int,
    weights: Shaped[np.ndarray, " item"] | None = None,
) -> Float[np.ndarray, " group"]:
    """Add up `weights` (1 each where None) by group; of no items at all too."""
    return np.bincount(group, weights, n_groups).astype(np.float64)


def ratio(
    above: Shaped[np.ndarray, "*shape"], below: Shaped[np.ndarray, "*shape"], empty: float = 0.0
) -> Float[np.ndarray, "*shape"]:
    """Divide where the divisor is above 0, `empty` elsewhere.

    >>> ratio(np.array([1.0, 1.0]), np.array([2.0, 0.0]))
    array([0.5, 0. ])
    """
    out = np.full(np.shape(above), empty, dtype=float)
    np.divide(above, below, out=out, where=below > 0)
    return out


def gini(
    group: Int[np.ndarray, " item"], values: Float[np.ndarray, " item"], n_groups: int
) -> Float[np.ndarray, " group"]:
    """Measure per group how unequal its values are, in [0, 1); 0 for equal, single or no values.

    Args:
        group: Of each value, in 0..n_groups-1.
        values: At least 0; zeros do not count as members.
        n_groups: Groups, empty ones included.

    >>> gini(np.array([0, 0, 1]), np.array([3.0, 1.0, 2.0]), 2)
    array([0.25, 0.  ])
    """
    group, values = group[values > 0], values[values > 0]
    # By group, then by value; faster than lexsort, exact but for ties within 1e-12 of the range.
    order = np.argsort(group + values / (2 * values.max(initial=1e-300)))
    group, values = group[order], values[order]
    n = np.bincount(group, minlength=n_groups)
    rank = np.arange(len(group)) - (np.cumsum(n) - n)[group] + 1.0
    total = tally(group, n_groups, values)
    members = np.maximum(n, 1)
    return np.maximum(
        ratio(2 * tally(group, n_groups, rank * values), members * total, empty=1.0)
        - np.where(total > 0, (members + 1) / members, 1.0),
        0.0,
    )


def group_entropy(
    group: Int[np.ndarray, " item"], masses: Float[np.ndarray, " item"], n_groups: int
) -> Float[np.ndarray, " group"]:
    """Entropy of each group's masses over the log of their number; 0 for fewer than two."""
    share = ratio(masses, tally(group, n_groups, masses)[group])
    spread = tally(group, n_groups, entr(share))
    return np.clip(ratio(spread, np.log(np.maximum(tally(group, n_groups), 1))), 0.0, 1.0)


def entropy(masses: Float[np.ndarray, "*rows item"]) -> Float[np.ndarray, "*rows"]:
    """Entropy of masses over its greatest possible value, in [0, 1]; 1 where there is no mass.

    >>> entropy(np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]))
    array([1., 0., 1.])
    """
    total = masses.sum(axis=-1, keepdims=True)
    share = ratio(masses, np.broadcast_to(total, masses.shape))
    spread = entr(share).sum(axis=-1) / np.log(max(masses.shape[-1], 2))
    return np.where(total[..., 0] > 0, np.clip(spread, 0.0, 1.0), 1.0)


def layers_within(
    depths: Float[np.ndarray, " layer"], low: float, high: float
) -> Int[np.ndarray, " chosen"]:
    """Pick the layers with `low < depth <= high`; the one nearest to the middle if there is none.

    >>> layers_within(np.arange(1, 7) / 6, 0.75, 1.0)
    array([4, 5])
    >>> layers_within(np.array([0.5, 1.0]), 0.5, 0.75)
    array([0])
    """
    inside = np.flatnonzero((depths > low) & (depths <= high))
    if len(inside):
        return inside
    return np.array([np.abs(depths - (low + high) / 2).argmin()])
