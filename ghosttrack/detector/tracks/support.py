"""Family C, support: what the emitted token rests on."""

import numpy as np
from jaxtyping import Float

from ghosttrack.detector.spec import FRACTION, SIGNED, define
from ghosttrack.detector.tracks.attribution import Attribution, Evidence
from ghosttrack.detector.tracks.depth import layers_within
from ghosttrack.detector.tracks.track_table import TrackTable, gini, ratio

STATISTICS = define(
    "support",
    ("winner_share", FRACTION, -1, "greatest single-track share of the late support"),
    ("support_gini", FRACTION, -1, "Gini of late support over the supporting tracks"),
    ("support_depth", FRACTION, +1, "support-weighted mean birth depth of the tracks"),
    ("prior_share", FRACTION, +1, "share of late support present with the subject masked"),
    ("bias_share", SIGNED, +1, "biases' part of the answer's logit, / (|bias| + |latents|)"),
)


def support(flat: TrackTable, evidence: Evidence) -> dict[str, Float[np.ndarray, " sample"]]:
    """Compute the family's columns by name.

    Support is an observation's positive attribution to the emitted token over the last quarter of
    the depth. An answer that no track supports has share and Gini 0 and counts as born at the end.
    """
    attribution, tracks = evidence.attribution, flat.tracks
    own, positive = _own(flat, attribution), late_support(flat, attribution)
    by_track = flat.per_track(positive)
    total = flat.tracks_per_sample(by_track)
    birth = flat.depths[tracks.birth]
    main, _ = _main_supporter(flat, by_track)
    presence = evidence.presence[flat.sample, flat.layer, flat.slot]
    says = flat.per_sample(np.where(flat.layer == flat.n_layers - 1, own, 0.0))
    bias = attribution.bias[np.arange(flat.n_samples), attribution.emitted]
    return {
        "winner_share": ratio(main, total, empty=0.0),
        "support_gini": gini(tracks.sample, by_track, flat.n_samples),
        "support_depth": ratio(flat.tracks_per_sample(by_track * birth), total, empty=1.0),
        "prior_share": _prior_share(flat, positive, presence, total),
        "bias_share": ratio(bias, np.abs(bias) + np.abs(says), empty=0.0),
    }


def late_support(flat: TrackTable, attribution: Attribution) -> Float[np.ndarray, " obs"]:
    """Positive attribution to the emitted token over the last quarter of the depth, else 0."""
    is_late = np.isin(flat.layer, layers_within(flat.depths, 0.75, 1.0))
    return np.where(is_late, np.maximum(_own(flat, attribution), 0.0), 0.0)


def _own(flat: TrackTable, attribution: Attribution) -> Float[np.ndarray, " obs"]:
    """Attribution to the emitted token."""
    column = attribution.emitted[flat.sample]
    return attribution.logits[flat.sample, flat.layer, flat.slot, column].astype(np.float64)


def _prior_share(
    flat: TrackTable,
    positive: Float[np.ndarray, " obs"],
    presence: Float[np.ndarray, " obs"],
    total: Float[np.ndarray, " sample"],
) -> Float[np.ndarray, " sample"]:
    """Share of the support that is there without the subject; NaN where none was found."""
    has_subject = flat.per_sample(np.isnan(presence)) == 0
    kept = flat.per_sample(positive * np.nan_to_num(presence))
    return np.where(has_subject, ratio(kept, total, empty=0.0), np.nan)


def main_birth(flat: TrackTable, attribution: Attribution) -> Float[np.ndarray, " sample"]:
    """Depth at which the track that supports the answer most was born; 1 where none does."""
    return _main_supporter(flat, flat.per_track(late_support(flat, attribution)))[1]


def _main_supporter(
    flat: TrackTable, by_track: Float[np.ndarray, " track"]
) -> tuple[Float[np.ndarray, " sample"], Float[np.ndarray, " sample"]]:
    """Return the greatest support of one track and that track's birth depth (1 where none).

    Of equal supporters the earliest born counts, so that the order of tracks does not matter.
    """
    birth = flat.depths[flat.tracks.birth]
    most = np.zeros(flat.n_samples)
    np.maximum.at(most, flat.tracks.sample, by_track)
    is_main = (by_track > 0) & (by_track == most[flat.tracks.sample])
    born = np.ones(flat.n_samples)
    np.minimum.at(born, flat.tracks.sample[is_main], birth[is_main])
    return most, born
