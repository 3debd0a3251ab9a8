"""Family F, stability: how evenly the strongest hypotheses are carried on."""

import numpy as np
from jaxtyping import Bool, Float

from ghosttrack.detector.spec import FRACTION, POSITIVE, REAL, define
from ghosttrack.detector.tracks.attribution import Evidence
from ghosttrack.detector.tracks.scene import Scene, ratio
from ghosttrack.detector.tracks.support import late_support

N_STRONGEST = 5
"""Confirmed tracks, by mean strength, whose variation is taken."""

STATISTICS = define(
    "stability",
    ("mag_cv", POSITIVE, +1, "mean variation of strength in the 5 strongest confirmed tracks"),
    ("winner_trend", REAL, -1, "slope of the main supporter's log strength, last half"),
    ("set_jaccard", FRACTION, -1, "mean weighted Jaccard of adjacent layers' tracks"),
)


def stability(scene: Scene, evidence: Evidence) -> dict[str, Float[np.ndarray, " sample"]]:
    """Compute the family's columns by name."""
    return {
        "mag_cv": _variation(scene),
        "winner_trend": _trend(scene, late_support(scene, evidence.attribution)),
        "set_jaccard": _jaccard(scene),
    }


def _variation(scene: Scene) -> Float[np.ndarray, " sample"]:
    """Mean over the strongest confirmed tracks of strength's deviation over its mean; 0 of none."""
    n = scene.per_track(np.ones(len(scene.track)))
    mean = ratio(scene.per_track(scene.strength), n, empty=0.0)
    square = ratio(scene.per_track((scene.strength - mean[scene.track]) ** 2), n, empty=0.0)
    variation = ratio(np.sqrt(square), mean, empty=0.0)
    chosen = _first(scene, np.where(scene.tracks.confirmed, mean, -1.0), N_STRONGEST)
    chosen &= scene.tracks.confirmed
    total = scene.tracks_per_sample(variation * chosen)
    return ratio(total, scene.tracks_per_sample(chosen), empty=0.0)


def _trend(scene: Scene, late: Float[np.ndarray, " obs"]) -> Float[np.ndarray, " sample"]:
    """Slope over the last half, per whole depth, of the log strength of the main supporter.

    0 where nothing supports the answer, or only one observation of the supporter is that late.
    """
    by_track = scene.per_track(late)
    is_main = _first(scene, by_track, 1) & (by_track > 0)
    depth = scene.depths[scene.layer]
    weight = (is_main[scene.track] & (depth > 0.5) & (scene.strength > 0)).astype(float)
    level = np.log(np.where(weight > 0, scene.strength, 1.0))
    n, x, y, xx, xy = (
        scene.per_sample(weight * values)
        for values in (np.ones(len(depth)), depth, level, depth**2, depth * level)
    )
    spread = n * xx - x**2
    return np.where(n > 1, ratio(n * xy - x * y, np.where(n > 1, spread, 0.0), empty=0.0), 0.0)


def _jaccard(scene: Scene) -> Float[np.ndarray, " sample"]:
    """Mean over pairs of layers of the weighted Jaccard index: tracks, by their strengths.

    The sum of the lesser strengths over that of the greater; a track that coasts is in one of the
    two layers at most.
    """
    order = np.lexsort((scene.layer, scene.track))
    track, layer, strength = (
        values[order] for values in (scene.track, scene.layer, scene.strength)
    )
    follows = (np.diff(track) == 0) & (np.diff(layer) == 1)
    lesser = np.zeros(len(order))
    lesser[order[1:][follows]] = np.minimum(strength[1:], strength[:-1])[follows]
    both = scene.per_layer(lesser)[:, 1:]
    mass = scene.per_layer(scene.strength)
    shares = ratio(both, mass[:, 1:] + mass[:, :-1] - both, empty=0.0)
    return shares.mean(axis=1) if shares.size else np.zeros(scene.n_samples)


def _first(
    scene: Scene, values: Float[np.ndarray, " track"], n_first: int
) -> Bool[np.ndarray, " track"]:
    """Mark each sample's tracks of the greatest values, of equal ones the earliest born."""
    order = np.lexsort((scene.tracks.birth, -values, scene.tracks.sample))
    sample = scene.tracks.sample[order]
    rank = np.arange(len(order)) - np.searchsorted(sample, sample)
    marked = np.zeros(len(order), dtype=bool)
    marked[order] = rank < n_first
    return marked
