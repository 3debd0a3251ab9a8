"""Family C, support: what the emitted token rests on."""

import numpy as np
from jaxtyping import Float

from ghosttrack.detector.spec import FRACTION, SIGNED, define
from ghosttrack.detector.tracks.attribution import Attribution, Evidence
from ghosttrack.detector.tracks.depth import layers_within
from ghosttrack.detector.tracks.scene import Scene, gini, ratio

STATISTICS = define(
    "support",
    ("winner_share", FRACTION, -1, "greatest single-track share of the late support"),
    ("support_gini", FRACTION, -1, "Gini of late support over the supporting tracks"),
    ("support_depth", FRACTION, +1, "support-weighted mean birth depth of the tracks"),
    ("prior_share", FRACTION, +1, "share of late support present with the subject masked"),
    ("bias_share", SIGNED, +1, "biases' part of the answer's logit, / (|bias| + |latents|)"),
)


def support(scene: Scene, evidence: Evidence) -> dict[str, Float[np.ndarray, " sample"]]:
    """Compute the family's columns by name.

    Support is an observation's positive attribution to the emitted token over the last quarter of
    the depth. An answer that no track supports has share and Gini 0 and counts as born at the end.
    """
    attribution, tracks = evidence.attribution, scene.tracks
    own, positive = _own(scene, attribution), late_support(scene, attribution)
    by_track = scene.per_track(positive)
    total = scene.tracks_per_sample(by_track)
    birth = scene.depths[tracks.birth]
    main, _ = _main_supporter(scene, by_track)
    presence = evidence.presence[scene.sample, scene.layer, scene.slot]
    says = scene.per_sample(np.where(scene.layer == scene.n_layers - 1, own, 0.0))
    bias = attribution.bias[np.arange(scene.n_samples), attribution.emitted]
    return {
        "winner_share": ratio(main, total, empty=0.0),
        "support_gini": gini(tracks.sample, by_track, scene.n_samples),
        "support_depth": ratio(scene.tracks_per_sample(by_track * birth), total, empty=1.0),
        "prior_share": _prior_share(scene, positive, presence, total),
        "bias_share": ratio(bias, np.abs(bias) + np.abs(says), empty=0.0),
    }


def late_support(scene: Scene, attribution: Attribution) -> Float[np.ndarray, " obs"]:
    """Positive attribution to the emitted token over the last quarter of the depth, else 0."""
    is_late = np.isin(scene.layer, layers_within(scene.depths, 0.75, 1.0))
    return np.where(is_late, np.maximum(_own(scene, attribution), 0.0), 0.0)


def _own(scene: Scene, attribution: Attribution) -> Float[np.ndarray, " obs"]:
    """Attribution to the emitted token."""
    column = attribution.emitted[scene.sample]
    return attribution.logits[scene.sample, scene.layer, scene.slot, column].astype(np.float64)


def _prior_share(
    scene: Scene,
    positive: Float[np.ndarray, " obs"],
    presence: Float[np.ndarray, " obs"],
    total: Float[np.ndarray, " sample"],
) -> Float[np.ndarray, " sample"]:
    """Share of the support that is there without the subject; NaN where none was found."""
    has_subject = scene.per_sample(np.isnan(presence)) == 0
    kept = scene.per_sample(positive * np.nan_to_num(presence))
    return np.where(has_subject, ratio(kept, total, empty=0.0), np.nan)


def main_birth(scene: Scene, attribution: Attribution) -> Float[np.ndarray, " sample"]:
    """Depth at which the track that supports the answer most was born; 1 where none does."""
    return _main_supporter(scene, scene.per_track(late_support(scene, attribution)))[1]


def _main_supporter(
    scene: Scene, by_track: Float[np.ndarray, " track"]
) -> tuple[Float[np.ndarray, " sample"], Float[np.ndarray, " sample"]]:
    """Return the greatest support of one track and that track's birth depth (1 where none).

    Of equal supporters the earliest born counts, so that the order of tracks does not matter.
    """
    birth = scene.depths[scene.tracks.birth]
    most = np.zeros(scene.n_samples)
    np.maximum.at(most, scene.tracks.sample, by_track)
    is_main = (by_track > 0) & (by_track == most[scene.tracks.sample])
    born = np.ones(scene.n_samples)
    np.minimum.at(born, scene.tracks.sample[is_main], birth[is_main])
    return most, born
