"""Families E and F: how well links fit what text led to expect, and how evenly they carry on."""

import numpy as np
from jaxtyping import Bool

from ghosttrack.detector.table import FRACTION, POSITIVE, REAL, define
from ghosttrack.detector.tracks.attribution import Evidence
from ghosttrack.detector.tracks.support import late_support
from ghosttrack.detector.tracks.track_table import (
    Columns,
    PerObs,
    PerSample,
    PerTrack,
    TrackTable,
    ratio,
)

N_STRONGEST = 5
"""Confirmed tracks, by mean strength, whose variation is taken."""

LINKAGE = define(
    "association",
    ("link_llr", REAL, -1, "mean log-likelihood ratio of the links, nats"),
    ("nis", POSITIVE, +1, "mean squared surprise of linked magnitudes, / its variance on text"),
    ("nis_peak_depth", FRACTION, 0, "depth of the layer where that is greatest"),
    ("miss_rate", FRACTION, +1, "layers that tracks coast over, / track-layers"),
)


def linkage(flat: TrackTable) -> Columns:
    """Compute the family's columns by name.

    A sample without links counts as neither likely nor surprising: its ratio is 0, its innovation
    1, the mean on text, and its peak depth 0.
    """
    tracks = flat.tracks
    is_link = np.isfinite(tracks.link_llr)
    n_links = is_link.sum(axis=(1, 2)).astype(float)
    llr = np.where(is_link, tracks.link_llr, 0.0).sum(axis=(1, 2), dtype=float)
    surprise = np.where(is_link, tracks.innovation, 0.0).sum(axis=2, dtype=float)
    by_layer = ratio(surprise, is_link.sum(axis=2), empty=-1.0)
    peak = flat.depths[by_layer.argmax(axis=1)]
    return {
        "link_llr": ratio(llr, n_links),
        "nis": ratio(surprise.sum(axis=1), n_links, empty=1.0),
        "nis_peak_depth": np.where(n_links > 0, peak, 0.0),
        "miss_rate": ratio(
            flat.tracks_per_sample(tracks.n_misses()), flat.tracks_per_sample(tracks.lengths())
        ),
    }


STABILITY = define(
    "stability",
    ("mag_cv", POSITIVE, +1, "mean variation of strength in the 5 strongest confirmed tracks"),
    ("winner_trend", REAL, -1, "slope of the main supporter's log strength, last half"),
    ("set_jaccard", FRACTION, -1, "mean weighted Jaccard of adjacent layers' tracks"),
)


def stability(flat: TrackTable, evidence: Evidence) -> Columns:
    """Compute the family's columns by name."""
    return {
        "mag_cv": _variation(flat),
        "winner_trend": _trend(flat, late_support(flat, evidence.attribution)),
        "set_jaccard": _jaccard(flat),
    }


def _variation(flat: TrackTable) -> PerSample:
    """Mean over the strongest confirmed tracks of strength's deviation over its mean; 0 of none."""
    mean, variation = flat.strength_in_tracks()
    chosen = _first(flat, np.where(flat.tracks.confirmed, mean, -1.0), N_STRONGEST)
    chosen &= flat.tracks.confirmed
    return ratio(flat.tracks_per_sample(variation * chosen), flat.tracks_per_sample(chosen))


def _trend(flat: TrackTable, late: PerObs) -> PerSample:
    """Slope over the last half, per whole depth, of the log strength of the main supporter.

    0 where nothing supports the answer, or only one observation of the supporter is that late.
    """
    by_track = flat.per_track(late)
    is_main = _first(flat, by_track, 1) & (by_track > 0)
    depth = flat.depths[flat.layer]
    weight = (is_main[flat.track] & (depth > 0.5) & (flat.strength > 0)).astype(float)
    level = np.log(np.where(weight > 0, flat.strength, 1.0))
    n, x, y, xx, xy = (
        flat.per_sample(weight * values)
        for values in (np.ones(len(depth)), depth, level, depth**2, depth * level)
    )
    spread = n * xx - x**2
    return np.where(n > 1, ratio(n * xy - x * y, np.where(n > 1, spread, 0.0)), 0.0)


def _jaccard(flat: TrackTable) -> PerSample:
    """Mean over pairs of layers of the weighted Jaccard index: tracks, by their strengths.

    The sum of the lesser strengths over that of the greater; a track that coasts is in one of the
    two layers at most.
    """
    order = np.lexsort((flat.layer, flat.track))
    track, layer, strength = (values[order] for values in (flat.track, flat.layer, flat.strength))
    follows = (np.diff(track) == 0) & (np.diff(layer) == 1)
    lesser = np.zeros(len(order))
    lesser[order[1:][follows]] = np.minimum(strength[1:], strength[:-1])[follows]
    both = flat.per_layer(lesser)[:, 1:]
    mass = flat.per_layer(flat.strength)
    shares = ratio(both, mass[:, 1:] + mass[:, :-1] - both)
    return shares.mean(axis=1) if shares.size else np.zeros(flat.n_samples)


def _first(flat: TrackTable, values: PerTrack, n_first: int) -> Bool[np.ndarray, " track"]:
    """Mark each sample's tracks of the greatest values, of equal ones the earliest born."""
    order = np.lexsort((flat.tracks.birth, -values, flat.tracks.sample))
    sample = flat.tracks.sample[order]
    rank = np.arange(len(order)) - np.searchsorted(sample, sample)
    marked = np.zeros(len(order), dtype=bool)
    marked[order] = rank < n_first
    return marked
