"""Every statistic of tracks in one table: what it is, its range, what was expected of it.

Directions were fixed before any label was seen (families A to H follow the published evidence,
`classic` the earlier code's reasoning); the evaluation says which of them fail. L is the number of
layers, L0 a sample's mean number of observations per layer, depth the share of the model's blocks
that lie behind; "late" is the last quarter of the depth.

To add one, write its definition and its formula into the module of its family; nothing else names
it. A family is such definitions, a function, and a line of `FAMILIES`.
"""

from collections.abc import Callable
from typing import NamedTuple

from ghosttrack.detector.table import StatisticSpec, Table
from ghosttrack.detector.tracks import (
    classic,
    clusters,
    life_cycle,
    linkage,
    novelty,
    support,
)
from ghosttrack.detector.tracks.attribution import Evidence
from ghosttrack.detector.tracks.life_cycle import LengthNull
from ghosttrack.detector.tracks.track_table import Columns, TrackTable, survey
from ghosttrack.tracking.tracks import Tracks


class TrackFamily(NamedTuple):
    """Statistics that belong together."""

    specs: tuple[StatisticSpec, ...]
    compute: Callable[[TrackTable, Evidence, LengthNull], Columns]
    """Gives a column per spec."""


FAMILIES = (
    TrackFamily(support.COMPETITION, lambda flat, e, _: support.competition(flat, e)),
    TrackFamily(clusters.STATISTICS, lambda flat, e, _: clusters.clusters(flat, e)),
    TrackFamily(support.SUPPORT, lambda flat, e, _: support.support(flat, e)),
    TrackFamily(life_cycle.STATISTICS, life_cycle.life_cycle),
    TrackFamily(linkage.LINKAGE, lambda flat, _, __: linkage.linkage(flat)),
    TrackFamily(linkage.STABILITY, lambda flat, e, _: linkage.stability(flat, e)),
    TrackFamily(novelty.STATISTICS, lambda _, e, __: e.novelty),
    TrackFamily(classic.STATISTICS, lambda flat, _, __: classic.classic(flat)),
)
TRACK_STATISTICS = tuple(spec for family in FAMILIES for spec in family.specs)
"""Columns of the table `tracks` and of each `null:<kind>`, in its order."""


def track_statistics(evidence: Evidence, tracks: Tracks, null: LengthNull) -> Table:
    """Compute families B to G and `classic`, of real tracks and null tracks alike.

    `null` is the reference of `len_excess`.
    """
    flat = survey(evidence, tracks)
    tables = [Table.of(one.specs, one.compute(flat, evidence, null)) for one in FAMILIES]
    return tables[0].concat(*tables[1:])
