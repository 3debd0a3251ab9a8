"""Family E, association quality: how well the tracks' links fit what text led to expect."""

import numpy as np
from jaxtyping import Float

from ghosttrack.detector.spec import FRACTION, POSITIVE, REAL, define
from ghosttrack.detector.tracks.track_table import TrackTable, ratio

STATISTICS = define(
    "association",
    ("link_llr", REAL, -1, "mean log-likelihood ratio of the links, nats"),
    ("nis", POSITIVE, +1, "mean squared surprise of linked magnitudes, / its variance on text"),
    ("nis_peak_depth", FRACTION, 0, "depth of the layer where that is greatest"),
    ("miss_rate", FRACTION, +1, "layers that tracks coast over, / track-layers"),
)


def linkage(flat: TrackTable) -> dict[str, Float[np.ndarray, " sample"]]:
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
        "link_llr": ratio(llr, n_links, empty=0.0),
        "nis": ratio(surprise.sum(axis=1), n_links, empty=1.0),
        "nis_peak_depth": np.where(n_links > 0, peak, 0.0),
        "miss_rate": ratio(
            flat.tracks_per_sample(tracks.n_misses()),
            flat.tracks_per_sample(tracks.lengths()),
            empty=0.0,
        ),
    }
