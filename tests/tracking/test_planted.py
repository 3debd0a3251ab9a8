from dataclasses import replace

import numpy as np

from ghosttrack.tracking.tracks import build_tracks, no_decisions
from tests.tracking.planted import score


def tracks_of(track_of, confirmed):
    """Tracks of which only the owner of every observation and confirmation are asked for."""
    track_of = np.array(track_of)
    base = build_tracks(track_of < -1, no_decisions(track_of.shape), 2)
    zeros = {
        name: np.zeros(len(confirmed), values.dtype)
        for name, values in base.arrays().items()
        if values.ndim == 1
    }
    return replace(base, **zeros | {"track_of": track_of, "confirmed": np.array(confirmed)})


def test_scores_are_those_of_hand_arithmetic():
    # one sample, 4 layers, 2 slots. Identity 5 is reported as track 0, 0, 1, 1: one switch.
    # Identity 7 is reported once, by track 2, and missed once (track 3 is unconfirmed).
    # Track 2 also reports a clutter observation.
    truth = np.array([[[5, 7], [5, 7], [5, -1], [5, -1]]])
    owner = [[[0, 2], [0, 3], [1, 2], [1, -1]]]
    result = score(truth, tracks_of(owner, [True, True, True, False]))
    # wanted 6, reported 6; matching 5-0 (or 5-1) and 7-2 agree on 2 + 1 observations
    assert result.idf1 == 2 * 3 / (6 + 6)
    # 1 missed + 1 false + 1 switch
    np.testing.assert_allclose(result.mota, 1 - 3 / 6)
