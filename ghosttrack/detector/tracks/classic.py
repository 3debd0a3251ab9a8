"""The earlier code's six groups of track statistics, made scale-free and normalised by length.

Entropy, churn, competition, stability, dominance and density, read off strengths and tracks alone:
neither the answer nor the model's output enters.
"""

import numpy as np
from jaxtyping import Float

from ghosttrack.detector.spec import FRACTION, POSITIVE, REAL, define
from ghosttrack.detector.tracks.depth import layers_within
from ghosttrack.detector.tracks.scene import Scene, gini, ratio

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


def classic(scene: Scene) -> dict[str, Float[np.ndarray, " sample"]]:
    """Compute the family's columns by name.

    Means over layers leave out the layers without observations.
    """
    mass = scene.per_layer(scene.strength)
    n_obs = scene.per_layer()
    strongest, second = _two_strongest(scene)
    near = scene.strength >= 0.5 * strongest[scene.sample, scene.layer]
    spread = _layer_entropy(scene, mass, n_obs)
    top_share = ratio(strongest, mass, empty=0.0)
    churn = _churn(scene, mass)
    transitions = scene.depths[1:]
    late = layers_within(transitions, 0.5, 1.0) if len(transitions) else np.zeros(0, dtype=int)
    by_track = scene.per_track(scene.strength)
    total = mass.sum(axis=1)
    is_long = scene.tracks.lengths() >= max(2, scene.n_layers / 2)
    return {
        "classic_entropy_mean": _layer_mean(spread, n_obs),
        "classic_entropy_slope": _slope(spread, scene.depths),
        "classic_churn_mean": churn.mean(axis=1) if churn.size else np.zeros(scene.n_samples),
        "classic_churn_late": churn[:, late].mean(axis=1) if churn.size else total * 0.0,
        "classic_competition_second": _layer_mean(ratio(second, strongest, empty=0.0), n_obs),
        "classic_competition_near": _layer_mean(ratio(scene.per_layer(near), n_obs, 0.0), n_obs),
        "classic_stability_cv": _variation(scene),
        "classic_stability_long": ratio(
            scene.per_sample(scene.strength * is_long[scene.track]), total, empty=0.0
        ),
        "classic_dominance_mean": _layer_mean(top_share, n_obs),
        "classic_dominance_final": top_share[:, -1],
        "classic_dominance_gini": gini(scene.tracks.sample, by_track, scene.n_samples),
        "classic_density_tracks": ratio(
            scene.tracks_per_sample(np.ones(len(by_track))), n_obs.sum(axis=1), empty=0.0
        ),
        "classic_density_confirmed": ratio(
            scene.per_sample(scene.tracks.confirmed[scene.track]), n_obs.sum(axis=1), empty=0.0
        ),
    }


def _layer_mean(
    values: Float[np.ndarray, "sample layer"], n_obs: Float[np.ndarray, "sample layer"]
) -> Float[np.ndarray, " sample"]:
    there = n_obs > 0
    return ratio((values * there).sum(axis=1), there.sum(axis=1), empty=0.0)


def _two_strongest(
    scene: Scene,
) -> tuple[Float[np.ndarray, "sample layer"], Float[np.ndarray, "sample layer"]]:
    """Return the greatest and the second greatest strength of each layer; 0 where there is none."""
    n_slots = max(scene.tracks.track_of.shape[2], 2)
    dense = np.zeros((scene.n_samples, scene.n_layers, n_slots))
    dense[scene.sample, scene.layer, scene.slot] = scene.strength
    two = np.partition(dense, n_slots - 2, axis=2)[:, :, -2:]
    return two[:, :, 1], two[:, :, 0]


def _layer_entropy(
    scene: Scene, mass: Float[np.ndarray, "sample layer"], n_obs: Float[np.ndarray, "sample layer"]
) -> Float[np.ndarray, "sample layer"]:
    """Entropy of a layer's strengths over the log of their number; 0 for fewer than two."""
    share = ratio(scene.strength, mass[scene.sample, scene.layer], empty=0.0)
    terms = -share * np.log(np.where(share > 0, share, 1.0))
    return np.clip(ratio(scene.per_layer(terms), np.log(np.maximum(n_obs, 1)), empty=0.0), 0.0, 1.0)


def _slope(
    values: Float[np.ndarray, "sample layer"], depths: Float[np.ndarray, " layer"]
) -> Float[np.ndarray, " sample"]:
    """Slope of the least-squares line over the whole depth of the model; 0 for one layer."""
    centred = depths - depths.mean()
    spread = float(centred @ centred)
    return values @ centred / spread if spread > 0 else np.zeros(len(values))


def _churn(
    scene: Scene, mass: Float[np.ndarray, "sample layer"]
) -> Float[np.ndarray, "sample transition"]:
    """Per pair of layers, the mean share of mass that ends before it and that begins after it."""
    tracks = scene.tracks
    new = scene.per_layer(scene.strength * (tracks.birth[scene.track] == scene.layer))
    gone = scene.per_layer(scene.strength * (tracks.last[scene.track] == scene.layer))
    return (ratio(new, mass, empty=0.0)[:, 1:] + ratio(gone, mass, empty=0.0)[:, :-1]) / 2


def _variation(scene: Scene) -> Float[np.ndarray, " sample"]:
    """Mean over confirmed tracks of strength's standard deviation over its mean; 0 for no track."""
    n = scene.per_track(np.ones(len(scene.track)))
    mean = ratio(scene.per_track(scene.strength), n, empty=0.0)
    spread = scene.per_track((scene.strength - mean[scene.track]) ** 2)
    variation = ratio(np.sqrt(ratio(spread, n, empty=0.0)), mean, empty=0.0)
    total = scene.tracks_per_sample(variation * scene.tracks.confirmed)
    return ratio(total, scene.tracks_per_sample(scene.tracks.confirmed), empty=0.0)
