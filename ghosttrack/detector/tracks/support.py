"""Families B and C: which candidates the tracks argue for, and what the emitted token rests on."""

import numpy as np
from jaxtyping import Bool, Float

from ghosttrack.detector.table import FRACTION, POSITIVE, SIGNED, define
from ghosttrack.detector.tracks.attribution import Attribution, Evidence, promote
from ghosttrack.detector.tracks.track_table import (
    Columns,
    PerObs,
    PerSample,
    PerTrack,
    TrackTable,
    entropy,
    gini,
    layers_within,
    ratio,
    tally,
)

COMPETITION = define(
    "competition",
    ("cand_entropy_mid", FRACTION, +1, "entropy of candidate mass at depth 0.5-0.75, / log M"),
    ("cand_entropy_final", FRACTION, +1, "the same at the last layer"),
    ("rival_ratio", FRACTION, +1, "best rival's mass / (its and the winner's), late mean"),
    ("rival_persistence", FRACTION, +1, "layers that one rival is above half the winner, / L"),
    ("n_rivals", POSITIVE, +1, "confirmed tracks promoting another candidate, / L0"),
)


def competition(flat: TrackTable, evidence: Evidence) -> Columns:
    """Compute family B's columns by name.

    A candidate's mass at a layer is the positive attribution to it of the observations there whose
    track promotes it. The winner is the emitted token, the rival the strongest other candidate.
    """
    attribution = evidence.attribution
    mass, is_rival_track = _candidate_mass(flat, attribution)
    rows = np.arange(flat.n_samples)
    winner = mass[rows, :, attribution.emitted]
    rivals = mass.copy()
    rivals[rows, :, attribution.emitted] = 0.0
    best_rival = rivals.max(axis=2)
    middle = layers_within(flat.depths, 0.5, 0.75)
    late = layers_within(flat.depths, 0.75, 1.0)
    n_close = ((rivals > 0) & (rivals >= 0.5 * winner[:, :, None])).sum(axis=1)
    mean_observations = flat.per_layer().mean(axis=1)
    n_rivals = flat.tracks_per_sample(is_rival_track & flat.tracks.confirmed)
    return {
        "cand_entropy_mid": entropy(mass[:, middle].sum(axis=1)),
        "cand_entropy_final": entropy(mass[:, -1]),
        "rival_ratio": ratio(best_rival, best_rival + winner, empty=0.5)[:, late].mean(axis=1),
        "rival_persistence": n_close.max(axis=1) / flat.n_layers,
        "n_rivals": ratio(n_rivals, mean_observations),
    }


def _candidate_mass(
    flat: TrackTable, attribution: Attribution
) -> tuple[Float[np.ndarray, "sample layer candidate"], Bool[np.ndarray, " track"]]:
    """Add up mass by candidate, and say which tracks promote another than the emitted one."""
    promotion = promote(flat.tracks, attribution)
    promoted = promotion.candidates[flat.track]
    logits = attribution.logits[flat.sample, flat.layer, flat.slot, promoted]
    n_candidates = attribution.logits.shape[3]
    shape = (flat.n_samples, flat.n_layers, n_candidates)
    index = flat.place * n_candidates + promoted
    mass = tally(index, int(np.prod(shape)), np.maximum(logits, 0.0)).reshape(shape)
    is_rival = promotion.candidates != attribution.emitted[flat.tracks.sample]
    return mass, is_rival & (promotion.logits > 0)


SUPPORT = define(
    "support",
    ("winner_share", FRACTION, -1, "greatest single-track share of the late support"),
    ("support_gini", FRACTION, -1, "Gini of late support over the supporting tracks"),
    ("support_depth", FRACTION, +1, "support-weighted mean birth depth of the tracks"),
    ("prior_share", FRACTION, +1, "share of late support present with the subject masked"),
    ("bias_share", SIGNED, +1, "biases' part of the answer's logit, / (|bias| + |latents|)"),
)


def support(flat: TrackTable, evidence: Evidence) -> Columns:
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
        "winner_share": ratio(main, total),
        "support_gini": gini(tracks.sample, by_track, flat.n_samples),
        "support_depth": ratio(flat.tracks_per_sample(by_track * birth), total, empty=1.0),
        "prior_share": _prior_share(flat, positive, presence, total),
        "bias_share": ratio(bias, np.abs(bias) + np.abs(says)),
    }


def late_support(flat: TrackTable, attribution: Attribution) -> PerObs:
    """Positive attribution to the emitted token over the last quarter of the depth, else 0."""
    is_late = np.isin(flat.layer, layers_within(flat.depths, 0.75, 1.0))
    return np.where(is_late, np.maximum(_own(flat, attribution), 0.0), 0.0)


def _own(flat: TrackTable, attribution: Attribution) -> PerObs:
    """Attribution to the emitted token."""
    column = attribution.emitted[flat.sample]
    return attribution.logits[flat.sample, flat.layer, flat.slot, column].astype(np.float64)


def _prior_share(
    flat: TrackTable, positive: PerObs, presence: PerObs, total: PerSample
) -> PerSample:
    """Share of the support that is there without the subject; NaN where none was found."""
    has_subject = flat.per_sample(np.isnan(presence)) == 0
    kept = flat.per_sample(positive * np.nan_to_num(presence))
    return np.where(has_subject, ratio(kept, total), np.nan)


def main_birth(flat: TrackTable, attribution: Attribution) -> PerSample:
    """Depth at which the track that supports the answer most was born; 1 where none does."""
    return _main_supporter(flat, flat.per_track(late_support(flat, attribution)))[1]


def _main_supporter(flat: TrackTable, by_track: PerTrack) -> tuple[PerSample, PerSample]:
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
