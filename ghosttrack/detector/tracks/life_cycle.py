"""Family D, life cycle: how tracks are born, last, split and die over the depth of the model.

Births, deaths and lengths are those of confirmed tracks: an observation that no later layer
continues is clutter, and counting it would make births and deaths the same number.
"""

from typing import NamedTuple

import numpy as np

from ghosttrack.detector.table import FRACTION, REAL, define
from ghosttrack.detector.tracks.attribution import Evidence
from ghosttrack.detector.tracks.support import main_birth
from ghosttrack.detector.tracks.track_table import (
    Columns,
    PerSample,
    TrackTable,
    layers_within,
    ratio,
)
from ghosttrack.tracking.tracks import Tracks, persistence


class LengthNull(NamedTuple):
    """Mean confirmed track length per sample, in layers, under links that mean nothing."""

    mean: float
    sd: float
    """Over samples; 1 where the null does not vary, so that the z-score is in layers."""


def fit_length_null(null: Tracks) -> LengthNull:
    """Measure what lengths chance alone gives, on the shuffled null's tracks of many samples."""
    lengths = mean_length(null)
    sd = float(lengths.std())
    return LengthNull(float(lengths.mean()), sd if sd > 0 else 1.0)


def mean_length(tracks: Tracks) -> PerSample:
    """Mean length of a sample's confirmed tracks in layers; 0 where none is confirmed."""
    return np.nan_to_num(persistence(tracks).confirmed)


STATISTICS = define(
    "life cycle",
    ("birth_rate", FRACTION, +1, "confirmed births after the first layer, / (L - 1) / L0"),
    ("death_rate", FRACTION, +1, "confirmed deaths before the last layer, / (L - 1) / L0"),
    ("len_excess", REAL, -1, "z of mean confirmed length against the shuffled null"),
    ("half_life", FRACTION, -1, "layers until half of the mass at depth 0.5 is gone, / L/2"),
    ("late_birth_mass", FRACTION, +1, "share of late mass in tracks born late"),
    ("orphan_winner", FRACTION, +1, "1 if the main supporter was born late, else 0"),
    ("merge_rate", FRACTION, 0, "tracks that ended in another one, / track-layers"),
    ("split_rate", FRACTION, 0, "tracks that split from another one, / track-layers"),
)


def life_cycle(flat: TrackTable, evidence: Evidence, null: LengthNull) -> Columns:
    """Compute the family's columns by name."""
    tracks, n_layers = flat.tracks, flat.n_layers
    n_obs = flat.per_layer().sum(axis=1)
    steps = n_obs * (n_layers - 1) / n_layers  # mean observations per layer, times transitions
    births = flat.tracks_per_sample(tracks.confirmed & (tracks.birth > 0))
    deaths = flat.tracks_per_sample(tracks.confirmed & (tracks.last < n_layers - 1))
    late = layers_within(flat.depths, 0.75, 1.0)
    is_late = np.isin(flat.layer, late)
    born_late = is_late & (tracks.birth[flat.track] >= late[0])
    track_layers = flat.tracks_per_sample(tracks.lengths())
    return {
        "birth_rate": ratio(births, steps),
        "death_rate": ratio(deaths, steps),
        "len_excess": (mean_length(tracks) - null.mean) / null.sd,
        "half_life": _half_life(flat),
        "late_birth_mass": ratio(
            flat.per_sample(flat.strength * born_late), flat.per_sample(flat.strength * is_late)
        ),
        "orphan_winner": (main_birth(flat, evidence.attribution) > 0.75).astype(float),
        "merge_rate": ratio(flat.tracks_per_sample(tracks.merged_into >= 0), track_layers),
        "split_rate": ratio(flat.tracks_per_sample(tracks.parent >= 0), track_layers),
    }


def _half_life(flat: TrackTable) -> PerSample:
    """Layers until half of the confirmed mass at half depth is gone, over the layers that follow.

    Straight lines join the layers' masses. 1 where half of it is there to the end, 0 where no
    confirmed track is seen at half depth.
    """
    middle = int(np.flatnonzero(flat.depths <= 0.5)[-1]) if flat.depths[0] <= 0.5 else 0
    stays = np.zeros(len(flat.tracks), dtype=bool)
    stays[flat.track[flat.layer == middle]] = True
    stays &= flat.tracks.confirmed
    mass = flat.per_layer(flat.strength * stays[flat.track])[:, middle:]
    share = ratio(mass, np.repeat(mass[:, :1], mass.shape[1], axis=1))
    n_left = mass.shape[1] - 1
    if n_left == 0:
        return (share[:, 0] > 0).astype(float)
    below = share < 0.5
    after = below.argmax(axis=1)  # 0 where it never falls below, or where there was no mass
    rows = np.arange(len(share))
    left, right = share[rows, np.maximum(after - 1, 0)], share[rows, after]
    crossing = after - 1 + ratio(left - 0.5, left - right)
    return np.where(below.any(axis=1), np.where(after > 0, crossing, 0.0) / n_left, 1.0)
