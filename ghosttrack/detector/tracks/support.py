"""Families B and C: which candidates the tracks argue for, and what the emitted one rests on."""

import numpy as np
from jaxtyping import Bool, Float

from ghosttrack.detector.tracks.attribution import Attribution, Evidence, promote
from ghosttrack.detector.tracks.depth import layers_within
from ghosttrack.detector.tracks.scene import Scene, entropy, gini, ratio, tally


def competition(scene: Scene, attribution: Attribution) -> dict[str, Float[np.ndarray, " sample"]]:
    """Compute family B's columns by name.

    A candidate's mass at a layer is the positive attribution to it of the observations there whose
    track promotes it. The winner is the emitted token, the rival the strongest other candidate.
    """
    mass, is_rival_track = _candidate_mass(scene, attribution)
    rows = np.arange(scene.n_samples)
    winner = mass[rows, :, attribution.emitted]
    rivals = mass.copy()
    rivals[rows, :, attribution.emitted] = 0.0
    best_rival = rivals.max(axis=2)
    middle = layers_within(scene.depths, 0.5, 0.75)
    late = layers_within(scene.depths, 0.75, 1.0)
    n_close = ((rivals > 0) & (rivals >= 0.5 * winner[:, :, None])).sum(axis=1)
    mean_observations = scene.per_layer().mean(axis=1)
    n_rivals = scene.tracks_per_sample(is_rival_track & scene.tracks.confirmed)
    return {
        "cand_entropy_mid": entropy(mass[:, middle].sum(axis=1)),
        "cand_entropy_final": entropy(mass[:, -1]),
        "rival_ratio": ratio(best_rival, best_rival + winner, empty=0.5)[:, late].mean(axis=1),
        "rival_persistence": n_close.max(axis=1) / scene.n_layers,
        "n_rivals": ratio(n_rivals, mean_observations, empty=0.0),
    }


def _candidate_mass(
    scene: Scene, attribution: Attribution
) -> tuple[Float[np.ndarray, "sample layer candidate"], Bool[np.ndarray, " track"]]:
    """Add up mass by candidate, and say which tracks promote another than the emitted one."""
    promotion = promote(scene.tracks, attribution)
    promoted = promotion.candidates[scene.track]
    logits = attribution.logits[scene.sample, scene.layer, scene.slot, promoted]
    n_candidates = attribution.logits.shape[3]
    shape = (scene.n_samples, scene.n_layers, n_candidates)
    index = (scene.sample * scene.n_layers + scene.layer) * n_candidates + promoted
    mass = tally(index, int(np.prod(shape)), np.maximum(logits, 0.0)).reshape(shape)
    is_rival = promotion.candidates != attribution.emitted[scene.tracks.sample]
    return mass, is_rival & (promotion.logits > 0)


def support(scene: Scene, evidence: Evidence) -> dict[str, Float[np.ndarray, " sample"]]:
    """Compute family C's columns by name, and `orphan_winner` of family D, which reads support.

    Support is an observation's positive attribution to the emitted token over the last quarter of
    the depth. An answer that no track supports has share and Gini 0 and counts as born at the end.
    """
    attribution, tracks = evidence.attribution, scene.tracks
    own, positive = _own(scene, attribution), late_support(scene, attribution)
    by_track = scene.per_track(positive)
    total = scene.tracks_per_sample(by_track)
    birth = scene.depths[tracks.birth]
    main, main_birth = _main_supporter(scene, by_track, birth)
    presence = evidence.presence[scene.sample, scene.layer, scene.slot]
    says = scene.per_sample(np.where(scene.layer == scene.n_layers - 1, own, 0.0))
    bias = attribution.bias[np.arange(scene.n_samples), attribution.emitted]
    return {
        "winner_share": ratio(main, total, empty=0.0),
        "support_gini": gini(tracks.sample, by_track, scene.n_samples),
        "support_depth": ratio(scene.tracks_per_sample(by_track * birth), total, empty=1.0),
        "prior_share": _prior_share(scene, positive, presence, total),
        "bias_share": ratio(bias, np.abs(bias) + np.abs(says), empty=0.0),
        "orphan_winner": (main_birth > 0.75).astype(float),
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


def _main_supporter(
    scene: Scene, by_track: Float[np.ndarray, " track"], birth: Float[np.ndarray, " track"]
) -> tuple[Float[np.ndarray, " sample"], Float[np.ndarray, " sample"]]:
    """Return the greatest support of one track and that track's birth depth (1 where none).

    Of equal supporters the earliest born counts, so that the order of tracks does not matter.
    """
    most = np.zeros(scene.n_samples)
    np.maximum.at(most, scene.tracks.sample, by_track)
    is_main = (by_track > 0) & (by_track == most[scene.tracks.sample])
    born = np.ones(scene.n_samples)
    np.minimum.at(born, scene.tracks.sample[is_main], birth[is_main])
    return most, born
