"""Texts that are read at some points, what is observed there, and tracks and nulls through it."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ghosttrack.data.progress import Meter
from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.config import DetectorConfig, Null, Position
from ghosttrack.detector.learners.classifiers import MOST_TOKENS
from ghosttrack.detector.table import Table
from ghosttrack.detector.tracks.attribution import Evidence, attribute, gather, in_order
from ghosttrack.detector.tracks.life_cycle import LengthNull
from ghosttrack.detector.tracks.observe import observe_pooled
from ghosttrack.detector.tracks.positions import Points, points
from ghosttrack.detector.tracks.statistics import TRACK_STATISTICS, track_statistics
from ghosttrack.detector.tracks.streaming import output_so_far
from ghosttrack.models.lm import LM
from ghosttrack.models.load import holds_twice, untrained
from ghosttrack.models.readings import How, Readings, n_to_read, read, whole_streams
from ghosttrack.pipelines.instruments import FittedInstruments
from ghosttrack.tracking.nulls import NullTracks, null_tracks
from ghosttrack.tracking.observations import Observations
from ghosttrack.tracking.tracker import link
from ghosttrack.tracking.tracks import Tracks


class TrackingSetup(NamedTuple):
    """What every text is looked at with."""

    layers: list[int]
    detector: DetectorConfig
    instruments: FittedInstruments


class TrackedPoints(NamedTuple):
    """What was read at some points, what was observed there, and the tracks through it."""

    readings: Readings
    evidence: Evidence
    tracks: Tracks


def track_points(
    lm: LM,
    tracking: TrackingSetup,
    answers: Answers,
    read_at: Points,
    *,
    pooled: bool = False,
    lens: bool = False,
) -> TrackedPoints:
    """Read the points and link what is observed; if pooled, over prompt and answer whole."""
    layers, detector, instruments = tracking
    bank, standard, usual = instruments[:3]
    with Meter("reading for tracks", n_to_read(lm, read_at.texts, read_at.subjects)) as meter:
        how = How(lens, meter.advance)
        readings = read(lm, read_at.texts, read_at.spoken, read_at.subjects, layers, how)
    if pooled:
        asked = zip(answers.prompts, answers.token_ids, strict=True)
        texts = [[*lm.encode(prompt), *ids] for prompt, ids in asked]
        streams = whole_streams(lm, texts, layers, len(layers) * (lm.d_model + 2 * bank.d_sae))
        observed = observe_pooled(bank, streams, detector.top_k, standard)
        nowhere = readings._replace(masked=np.full_like(readings.masked, np.nan))
        evidence = attribute(lm, bank, nowhere, observed, usual)
    else:
        evidence = gather(lm, bank, readings, detector.top_k, standard, usual)
    tracks = link(evidence.observed.observations, *instruments.tracker)
    return TrackedPoints(readings, evidence, tracks)


def token_table(
    lm: LM, tracking: TrackingSetup, answers: Answers, before: TrackedPoints, reference: LengthNull
) -> Table:
    """Compute what is known at every token of own answers, `before` being known at the first."""
    each = points(lm, answers, Position.answer_each)
    place = np.arange(len(each.answer)) - np.searchsorted(each.answer, each.answer)
    kept = np.flatnonzero(place < MOST_TOKENS)
    values = np.empty((len(kept), len(TRACK_STATISTICS)))
    firsts = track_statistics(before.evidence, before.tracks, reference)
    values[place[kept] == 0] = firsts.values
    later = each.take(kept[place[kept] > 0])
    if len(later.answer):
        _, evidence, tracks = track_points(lm, tracking, answers, later)
        values[place[kept] > 0] = track_statistics(evidence, tracks, reference).values
    output = output_so_far(answers, MOST_TOKENS)
    return output.concat(Table(firsts.names, values))


def track_nulls(
    tracking: TrackingSetup, observations: Observations, seed: int
) -> dict[str, NullTracks]:
    """Track the same observations under every null, `shuffled` first."""
    *_, tracker, directions, text = tracking.instruments
    wanted = {Null.shuffled: None, **dict.fromkeys(tracking.detector.nulls)}
    return {
        null.name: null_tracks(null.value, observations, tracker, directions, text, seed)
        for null in wanted
    }


def null_tables(
    evidence: Evidence, nulls: Mapping[str, NullTracks], reference: LengthNull
) -> dict[str, Table]:
    """Compute the statistics of null tracks."""
    return {
        f"null:{name}": track_statistics(in_order(null.order, evidence), null.tracks, reference)
        for name, null in nulls.items()
    }


def untrained_table(
    lm: LM,
    tracking: TrackingSetup,
    answers: Answers,
    read_at: Points,
    reference: LengthNull,
    seed: int,
) -> dict[str, Table]:
    """Run the same instruments over a model that never learned anything."""
    if not holds_twice(lm):
        return {}
    pooled = tracking.detector.position is Position.max_pool
    _, evidence, tracks = track_points(
        untrained(lm, seed), tracking, answers, read_at, pooled=pooled
    )
    return {"untrained": track_statistics(evidence, tracks, reference)}
