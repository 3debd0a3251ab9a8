"""Every statistic of one pass in one table: what it is, its range, what was expected of it.

Directions were fixed before any label was seen (families A to H follow the published evidence,
`classic` the earlier code's reasoning); the evaluation says which of them fail. L is the number of
layers, L0 a sample's mean number of observations per layer, depth the share of the model's blocks
that lie behind; "late" is the last quarter of the depth.
"""

from collections.abc import Mapping, Sequence
from math import inf

import numpy as np
from jaxtyping import Float

from ghosttrack.detector.spec import StatisticSpec
from ghosttrack.detector.table import Table
from ghosttrack.detector.tracks.attribution import Evidence
from ghosttrack.detector.tracks.classic import classic
from ghosttrack.detector.tracks.clusters import clusters
from ghosttrack.detector.tracks.lens import commitment
from ghosttrack.detector.tracks.life_cycle import LengthNull, life_cycle
from ghosttrack.detector.tracks.linkage import linkage
from ghosttrack.detector.tracks.scene import survey
from ghosttrack.detector.tracks.stability import stability
from ghosttrack.detector.tracks.support import competition, support
from ghosttrack.models.readings import Readings
from ghosttrack.tracking.tracks import Tracks


def _family(
    family: str, *rows: tuple[str, tuple[float, float], int, str]
) -> tuple[StatisticSpec, ...]:
    """Read rows of name, range, expected direction and definition."""
    return tuple(
        StatisticSpec(name, family, definition, low, high, direction)
        for name, (low, high), direction, definition in rows
    )


FRACTION, SIGNED, POSITIVE, REAL = (0.0, 1.0), (-1.0, 1.0), (0.0, inf), (-inf, inf)

LENS_STATISTICS: tuple[StatisticSpec, ...] = _family(
    "commitment",
    ("commit_depth", FRACTION, +1, "layers before the emitted token is lens top-1 for good, / L"),
    ("commit_jump", REAL, -1, "greatest one-layer rise of the emitted token's lens log-prob"),
    ("late_margin", POSITIVE, -1, "mean late log-ratio of the lens's two best tokens"),
    ("rank_area", FRACTION, +1, "mean log(1 + lens rank) of the emitted token, / log d_vocab"),
    ("lens_flips", FRACTION, +1, "changes of lens top-1 in the last half, / (L/2)"),
    ("settle_kl", POSITIVE, +1, "mean KL(final || lens) over the last third"),
)
"""Columns of the table `lens`, in its order."""

TRACK_STATISTICS: tuple[StatisticSpec, ...] = (
    *_family(
        "competition",
        ("cand_entropy_mid", FRACTION, +1, "entropy of candidate mass at depth 0.5-0.75, / log M"),
        ("cand_entropy_final", FRACTION, +1, "the same at the last layer"),
        ("rival_ratio", FRACTION, +1, "best rival's mass / (its and the winner's), late mean"),
        ("rival_persistence", FRACTION, +1, "layers that one rival is above half the winner, / L"),
        ("n_rivals", POSITIVE, +1, "confirmed tracks promoting another candidate, / L0"),
    ),
    *_family(
        "clusters",
        ("n_clusters", FRACTION, +1, "clusters of confirmed tracks by direction, / those tracks"),
        ("cluster_share", FRACTION, -1, "heaviest cluster's share of the confirmed tracks' mass"),
        ("cluster_entropy", FRACTION, +1, "entropy of that mass over clusters, / log their number"),
    ),
    *_family(
        "support",
        ("winner_share", FRACTION, -1, "greatest single-track share of the late support"),
        ("support_gini", FRACTION, -1, "Gini of late support over the supporting tracks"),
        ("support_depth", FRACTION, +1, "support-weighted mean birth depth of the tracks"),
        ("prior_share", FRACTION, +1, "share of late support present with the subject masked"),
        ("bias_share", SIGNED, +1, "biases' part of the answer's logit, / (|bias| + |latents|)"),
    ),
    *_family(
        "life cycle",
        ("birth_rate", FRACTION, +1, "confirmed births after the first layer, / (L - 1) / L0"),
        ("death_rate", FRACTION, +1, "confirmed deaths before the last layer, / (L - 1) / L0"),
        ("len_excess", REAL, -1, "z of mean confirmed length against the shuffled null"),
        ("half_life", FRACTION, -1, "layers until half of the mass at depth 0.5 is gone, / L/2"),
        ("late_birth_mass", FRACTION, +1, "share of late mass in tracks born late"),
        ("orphan_winner", FRACTION, +1, "1 if the main supporter was born late, else 0"),
        ("merge_rate", FRACTION, 0, "tracks that ended in another one, / track-layers"),
        ("split_rate", FRACTION, 0, "tracks that split from another one, / track-layers"),
    ),
    *_family(
        "association",
        ("link_llr", REAL, -1, "mean log-likelihood ratio of the links, nats"),
        ("nis", POSITIVE, +1, "mean squared surprise of linked magnitudes, / its variance on text"),
        ("nis_peak_depth", FRACTION, 0, "depth of the layer where that is greatest"),
        ("miss_rate", FRACTION, +1, "layers that tracks coast over, / track-layers"),
    ),
    *_family(
        "stability",
        ("mag_cv", POSITIVE, +1, "mean variation of strength in the 5 strongest confirmed tracks"),
        ("winner_trend", REAL, -1, "slope of the main supporter's log strength, last half"),
        ("set_jaccard", FRACTION, -1, "mean weighted Jaccard of adjacent layers' tracks"),
    ),
    *_family(
        "novelty",
        ("fvu", REAL, +1, "mean over layers of the z of the bank's unexplained share, on text"),
        ("fvu_max", REAL, +1, "the greatest of them"),
        ("l0_z", REAL, 0, "mean over layers of the z of the number of positive pre-activations"),
        ("rarity", POSITIVE, +1, "mean -log frequency on text of the observed latents"),
    ),
    *_family(
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
    ),
)
"""Columns of the table `tracks` and of each `null:<kind>`, in its order."""

SUBJECT_STATISTICS: tuple[StatisticSpec, ...] = _family(
    "knownness",
    ("subject_energy", REAL, -1, "mean z, on text, of what early layers (depth to 0.4) write"),
    ("subject_dominance", FRACTION, -1, "mean share of the strongest observation, depth 1/3-2/3"),
)
"""Columns of the table `subject`, read at the last token of the subject's name."""


def lens_statistics(readings: Readings) -> Table:
    """Compute family A; the last block's lens is the model's own output distribution."""
    return table_of(LENS_STATISTICS, commitment(readings.lens, readings.d_vocab))


def track_statistics(evidence: Evidence, tracks: Tracks, null: LengthNull) -> Table:
    """Compute families B to G and `classic`, of real tracks and null tracks alike.

    Args:
        evidence: What was observed; of the same samples as the tracks.
        tracks: Links of the evidence's observations.
        null: Lengths under the shuffled null, the reference of `len_excess`.
    """
    scene = survey(evidence, tracks)
    columns = {
        **competition(scene, evidence.attribution),
        **clusters(scene, evidence),
        **support(scene, evidence),
        **life_cycle(scene, null),
        **linkage(scene),
        **stability(scene, evidence),
        **evidence.novelty,
        **classic(scene),
    }
    return table_of(TRACK_STATISTICS, columns)


def table_of(
    specs: Sequence[StatisticSpec], columns: Mapping[str, Float[np.ndarray, " sample"]]
) -> Table:
    """Set columns side by side in the order of their specs; each has one."""
    names = tuple(spec.name for spec in specs)
    assert set(names) == set(columns), set(names) ^ set(columns)
    return Table(names, np.stack([columns[name].astype(np.float64) for name in names], axis=1))
