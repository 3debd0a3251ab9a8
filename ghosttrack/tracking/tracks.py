"""Tracks of a whole batch as arrays, and how long they last."""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ghosttrack.tracking.observations import Arrays


class Decisions(NamedTuple):
    """What association decided about every observation; a place is layer * slots + slot.

    Links never leave their sample.
    """

    predecessor: Int[np.ndarray, "sample layer obs"]
    """Observation that this one continues; -1 where a track is born or the slot is empty."""
    link_llr: Float[np.ndarray, "sample layer obs"]
    """Log-likelihood ratio of that link, nats; NaN where there is none."""
    innovation: Float[np.ndarray, "sample layer obs"]
    """Squared surprise of its magnitude over the variance, 1 on average; NaN likewise."""
    split_from: Int[np.ndarray, "sample layer obs"]
    """For a birth, the continued observation that explains it better than a birth does; else -1."""
    merge_to: Int[np.ndarray, "sample layer obs"]
    """The taken observation that would explain this one's end better than a miss does; else -1."""


def no_decisions(shape: tuple[int, ...]) -> Decisions:
    """Arrays of this shape in which nothing is linked."""
    places = [np.full(shape, -1, np.int32) for _ in range(3)]
    ratios = [np.full(shape, np.nan, np.float32) for _ in range(2)]
    return Decisions(places[0], ratios[0], ratios[1], places[1], places[2])


@dataclass(frozen=True)
class Tracks:
    """Identities across layers; a track's number is its place in the arrays over `track`.

    Tracks are numbered by sample, then by layer of birth, then by slot.
    """

    track_of: Int[np.ndarray, "sample layer obs"]
    """Number of the track that owns the observation; -1 for an empty slot."""
    link_llr: Float[np.ndarray, "sample layer obs"]
    """Log-likelihood ratio, in nats, of the link that leads here; NaN at births and empty slots."""
    innovation: Float[np.ndarray, "sample layer obs"]
    """Normalised innovation squared of that link's magnitude; NaN likewise."""
    sample: Int[np.ndarray, "track"]
    birth: Int[np.ndarray, "track"]
    """Layer of the first observation."""
    last: Int[np.ndarray, "track"]
    """Layer of the last observation."""
    n_obs: Int[np.ndarray, "track"]
    confirmed: Bool[np.ndarray, "track"]
    """Has at least `confirm_hits` observations."""
    parent: Int[np.ndarray, "track"]
    """Track that it split from; -1 for none."""
    merged_into: Int[np.ndarray, "track"]
    """Track that took over what it would have continued as; -1 for none."""

    def __len__(self) -> int:
        return len(self.sample)

    def lengths(self) -> Int[np.ndarray, "track"]:
        """Layers from birth to last observation, both counted: at least 1."""
        return self.last - self.birth + 1

    def n_misses(self) -> Int[np.ndarray, "track"]:
        """Layers that the track coasted over."""
        return self.lengths() - self.n_obs

    def arrays(self) -> Arrays:
        """Plain arrays that `from_arrays` reads back."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "Tracks":
        """Inverse of `arrays`."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})


def build_tracks(
    is_there: Bool[np.ndarray, "sample layer obs"], decided: Decisions, confirm_hits: int
) -> Tracks:
    """Follow the links from layer to layer and sum every track up."""
    n_layers, n_slots = is_there.shape[1:]
    born = is_there & (decided.predecessor < 0)
    track_of = np.where(born, np.cumsum(born, dtype=np.int32).reshape(born.shape) - 1, -1)
    by_place = track_of.reshape(len(is_there), -1)
    for layer in range(1, n_layers):
        sample, slot = np.nonzero(decided.predecessor[:, layer] >= 0)
        before = decided.predecessor[sample, layer, slot]
        track_of[sample, layer, slot] = by_place[sample, before]
    first = np.flatnonzero(born)
    n_tracks = len(first)
    place = np.flatnonzero(is_there)
    owner = track_of.ravel()[place]
    last = np.zeros(n_tracks, np.int64)
    last[owner] = place
    n_obs = np.bincount(owner, minlength=n_tracks)
    sample = first // (n_layers * n_slots)
    source, heir = decided.split_from.ravel()[first], decided.merge_to.ravel()[last]
    return Tracks(
        track_of=track_of,
        link_llr=decided.link_llr,
        innovation=decided.innovation,
        sample=sample,
        birth=first // n_slots % n_layers,
        last=last // n_slots % n_layers,
        n_obs=n_obs,
        confirmed=n_obs >= confirm_hits,
        parent=np.where(source >= 0, by_place[sample, source], -1),
        merged_into=np.where(heir >= 0, by_place[sample, heir], -1),
    )


class Lengths(NamedTuple):
    """Mean track lengths of every sample in layers, coasted ones counted; NaN where it has none.

    An association that links little can still confirm a few long tracks: read the mean over
    confirmed tracks beside those over all tracks.
    """

    confirmed: Float[np.ndarray, "sample"]
    """Over confirmed tracks: at least `confirm_hits` by construction."""
    every: Float[np.ndarray, "sample"]
    """Over all tracks; a lone observation is a track of length 1."""
    hits: Float[np.ndarray, "sample"]
    """Observations per track, over all tracks: a length that coasting cannot stretch."""


def persistence(tracks: Tracks) -> Lengths:
    """Average track lengths within every sample."""
    lengths, confirmed, n = tracks.lengths(), tracks.confirmed, len(tracks.track_of)
    weights = (lengths * confirmed, confirmed, lengths, np.ones_like(lengths), tracks.n_obs)
    sums = (np.bincount(tracks.sample, weight, n).astype(np.int64) for weight in weights)
    confirmed_layers, n_confirmed, all_layers, n_tracks, n_obs = sums
    return Lengths(
        confirmed=_ratio(confirmed_layers, n_confirmed),
        every=_ratio(all_layers, n_tracks),
        hits=_ratio(n_obs, n_tracks),
    )


def continued(tracks: Tracks) -> Float[np.ndarray, "sample layer"]:
    """Share of each layer's observations whose track is seen again deeper; NaN where none is."""
    is_there = tracks.track_of >= 0
    layer = np.arange(tracks.track_of.shape[1])[:, None]
    goes_on = is_there & (np.append(tracks.last, -1)[tracks.track_of] > layer)
    return _ratio(goes_on.sum(axis=2), is_there.sum(axis=2))


def _ratio(
    total: Int[np.ndarray, "sample *layer"], n: Int[np.ndarray, "sample *layer"]
) -> Float[np.ndarray, "sample *layer"]:
    """NaN where n is 0."""
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)
