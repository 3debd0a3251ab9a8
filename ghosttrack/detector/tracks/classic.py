"""The earlier code's six groups of track statistics, made scale-free and normalised by length.

Entropy, churn, competition, stability, dominance and density, read off strengths and tracks alone:
neither the answer nor the model's output enters.
"""

import numpy as np
from jaxtyping import Float

from ghosttrack.detector.table import FRACTION, POSITIVE, REAL, define
from ghosttrack.detector.tracks.track_table import (
    Columns,
    PerLayer,
    PerSample,
    TrackTable,
    gini,
    group_entropy,
    layers_within,
    ratio,
)

STATISTICS = define(
    "classic",
    ("classic_entropy_mean", FRACTION, +1, "mean normalised entropy of a layer's strengths"),
    ("classic_entropy_slope", REAL, +1, "slope of that entropy over depth"),
    ("classic_churn_mean", FRACTION, +1, "mean share of mass that begins or ends per step"),
    ("classic_churn_late", FRACTION, +1, "the same over the steps of the last half"),
    ("classic_competition_second", FRACTION, +1, "mean second greatest over greatest strength"),
    ("classic_competition_near", FRACTION, +1, "mean share above half the greatest strength"),
    ("classic_stability_cv", POSITIVE, +1, "mean variation of strength in confirmed tracks"),
    ("classic_stability_long", FRACTION, -1, "share of mass in tracks of at least L/2 layers"),
    ("classic_dominance_mean", FRACTION, -1, "mean share of the strongest observation"),
    ("classic_dominance_final", FRACTION, -1, "share of the strongest at the last layer"),
    ("classic_dominance_gini", FRACTION, -1, "Gini of mass over tracks"),
    ("classic_density_tracks", FRACTION, +1, "tracks per observation"),
    ("classic_density_confirmed", FRACTION, -1, "share of observations in confirmed tracks"),
)


def classic(flat: TrackTable) -> Columns:
    """Compute the family's columns by name.

    Means over layers leave out the layers without observations.
    """
    mass = flat.per_layer(flat.strength)
    n_obs = flat.per_layer()
    strongest, second = _two_strongest(flat)
    near = flat.strength >= 0.5 * strongest[flat.sample, flat.layer]
    spread = group_entropy(flat.place, flat.strength, mass.size).reshape(mass.shape)
    top_share = ratio(strongest, mass)
    churn = _churn(flat, mass)
    transitions = flat.depths[1:]
    late = layers_within(transitions, 0.5, 1.0) if len(transitions) else np.zeros(0, dtype=int)
    by_track = flat.per_track(flat.strength)
    total = mass.sum(axis=1)
    variation = flat.strength_in_tracks()[1]
    is_long = flat.tracks.lengths() >= max(2, flat.n_layers / 2)
    return {
        "classic_entropy_mean": _layer_mean(spread, n_obs),
        "classic_entropy_slope": _slope(spread, flat.depths),
        "classic_churn_mean": churn.mean(axis=1) if churn.size else np.zeros(flat.n_samples),
        "classic_churn_late": churn[:, late].mean(axis=1) if churn.size else total * 0.0,
        "classic_competition_second": _layer_mean(ratio(second, strongest), n_obs),
        "classic_competition_near": _layer_mean(ratio(flat.per_layer(near), n_obs), n_obs),
        "classic_stability_cv": ratio(
            flat.tracks_per_sample(variation * flat.tracks.confirmed),
            flat.tracks_per_sample(flat.tracks.confirmed),
        ),
        "classic_stability_long": ratio(
            flat.per_sample(flat.strength * is_long[flat.track]), total
        ),
        "classic_dominance_mean": _layer_mean(top_share, n_obs),
        "classic_dominance_final": top_share[:, -1],
        "classic_dominance_gini": gini(flat.tracks.sample, by_track, flat.n_samples),
        "classic_density_tracks": ratio(
            flat.tracks_per_sample(np.ones(len(by_track))), n_obs.sum(axis=1)
        ),
        "classic_density_confirmed": ratio(
            flat.per_sample(flat.tracks.confirmed[flat.track]), n_obs.sum(axis=1)
        ),
    }


def _layer_mean(values: PerLayer, n_obs: PerLayer) -> PerSample:
    there = n_obs > 0
    return ratio((values * there).sum(axis=1), there.sum(axis=1))


def _two_strongest(flat: TrackTable) -> tuple[PerLayer, PerLayer]:
    """Return the greatest and the second greatest strength of each layer; 0 where there is none."""
    n_slots = max(flat.tracks.track_of.shape[2], 2)
    dense = np.zeros((flat.n_samples, flat.n_layers, n_slots))
    dense[flat.sample, flat.layer, flat.slot] = flat.strength
    two = np.partition(dense, n_slots - 2, axis=2)[:, :, -2:]
    return two[:, :, 1], two[:, :, 0]


def _slope(values: PerLayer, depths: Float[np.ndarray, " layer"]) -> PerSample:
    """Slope of the least-squares line over the whole depth of the model; 0 for one layer."""
    centred = depths - depths.mean()
    spread = float(centred @ centred)
    return values @ centred / spread if spread > 0 else np.zeros(len(values))


def _churn(flat: TrackTable, mass: PerLayer) -> Float[np.ndarray, "sample transition"]:
    """Per pair of layers, the mean share of mass that ends before it and that begins after it."""
    tracks = flat.tracks
    new = flat.per_layer(flat.strength * (tracks.birth[flat.track] == flat.layer))
    gone = flat.per_layer(flat.strength * (tracks.last[flat.track] == flat.layer))
    return (ratio(new, mass)[:, 1:] + ratio(gone, mass)[:, :-1]) / 2
