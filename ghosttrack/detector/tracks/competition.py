"""Family B, competition: which candidates the tracks argue for."""

import numpy as np
from jaxtyping import Bool, Float

from ghosttrack.detector.spec import FRACTION, POSITIVE, define
from ghosttrack.detector.tracks.attribution import Attribution, Evidence, promote
from ghosttrack.detector.tracks.depth import layers_within
from ghosttrack.detector.tracks.track_table import TrackTable, entropy, ratio, tally

STATISTICS = define(
    "competition",
    ("cand_entropy_mid", FRACTION, +1, "entropy of candidate mass at depth 0.5-0.75, / log M"),
    ("cand_entropy_final", FRACTION, +1, "the same at the last layer"),
    ("rival_ratio", FRACTION, +1, "best rival's mass / (its and the winner's), late mean"),
    ("rival_persistence", FRACTION, +1, "layers that one rival is above half the winner, / L"),
    ("n_rivals", POSITIVE, +1, "confirmed tracks promoting another candidate, / L0"),
)


def competition(flat: TrackTable, evidence: Evidence) -> dict[str, Float[np.ndarray, " sample"]]:
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
        "n_rivals": ratio(n_rivals, mean_observations, empty=0.0),
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
    index = (flat.sample * flat.n_layers + flat.layer) * n_candidates + promoted
    mass = tally(index, int(np.prod(shape)), np.maximum(logits, 0.0)).reshape(shape)
    is_rival = promotion.candidates != attribution.emitted[flat.tracks.sample]
    return mass, is_rival & (promotion.logits > 0)
