import numpy as np
import pytest

from ghosttrack.detector.tracks.linkage import stability
from ghosttrack.detector.tracks.track_table import survey
from tests.detector.scenes import evidence_of, tracks_from


def columns(track_of, strengths, logits=None) -> dict[str, float]:
    evidence = evidence_of(strengths, logits=logits)
    flat = survey(evidence, tracks_from(track_of))
    return {name: float(values[0]) for name, values in stability(flat, evidence).items()}


def test_variation_is_that_of_the_five_strongest_confirmed_tracks():
    # tracks 0..4: 10 and 30, deviation 10 over mean 20; track 5, weaker: 1 and 3; track 6: alone
    strengths = np.array([[[10.0] * 5 + [1, 99], [30.0] * 5 + [3, 0]]])
    track_of = [[[0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5, -1]]]
    assert columns(track_of, strengths)["mag_cv"] == pytest.approx(0.5)
    strengths[0, :, 0] = 20.0
    assert columns(track_of, strengths)["mag_cv"] == pytest.approx(0.4)
    assert columns([[[0], [1]]], np.ones((1, 2, 1)))["mag_cv"] == 0


def test_the_trend_is_the_slope_of_the_main_supporters_log_strength():
    # depths .25 to 1; track 1 has most late support; in the last half it goes from 2 to 8
    strengths = np.array([[[1.0, 1.0], [1.0, 5.0], [1.0, 2.0], [1.0, 8.0]]])
    logits = np.zeros((1, 4, 2, 2))
    logits[0, :, 0, 0], logits[0, :, 1, 0] = 0.1, 0.5
    track_of = [[[0, 1]] * 4]
    found = columns(track_of, strengths, logits)
    assert found["winner_trend"] == pytest.approx(np.log(4) / 0.25)
    assert columns(track_of, strengths)["winner_trend"] == 0  # nothing supports the answer
    born_last = [[[0, 1], [0, 2], [0, 3], [0, 4]]]
    assert columns(born_last, strengths, logits)["winner_trend"] == 0


def test_jaccard_weighs_tracks_by_strength_and_takes_adjacent_layers_only():
    # step 1: track 0 has min 1, max 3; track 1 ends with 2: 1 / 5. Step 2: track 0 coasts,
    # track 2 begins: 0. Step 3: nothing of layer 2 goes on: 0.
    strengths = [[[1.0, 2.0], [3.0, 0.0], [0.0, 4.0], [5.0, 0.0]]]
    track_of = [[[0, 1], [0, -1], [-1, 2], [0, -1]]]
    assert columns(track_of, strengths)["set_jaccard"] == pytest.approx((1 / 5) / 3)
    same = np.full((1, 3, 2), 2.0)
    assert columns([[[0, 1]] * 3], same)["set_jaccard"] == pytest.approx(1)
    assert columns([[[0, 1]]], same[:, :1])["set_jaccard"] == 0
