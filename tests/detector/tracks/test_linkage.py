from dataclasses import replace

import numpy as np
import pytest

from ghosttrack.detector.tracks.linkage import linkage, stability
from ghosttrack.detector.tracks.track_table import survey
from tests.detector.scenes import evidence_of, tracks_from

NAN = np.nan


def columns(track_of, llr, innovation) -> dict[str, float]:
    links = {"link_llr": np.array(llr), "innovation": np.array(innovation)}
    tracks = replace(tracks_from(track_of), **links)
    flat = survey(evidence_of(np.where(np.array(track_of) >= 0, 1.0, 0.0)), tracks)
    return {name: float(values[0]) for name, values in linkage(flat).items()}


def test_means_are_over_links_and_the_peak_is_the_layer_of_the_greatest_mean():
    # track 0 in layers 0, 1, 3; track 1 in layers 0 and 1
    track_of = [[[0, 1], [0, 1], [-1, -1], [0, -1]]]
    llr = [[[NAN, NAN], [2.0, 4.0], [NAN, NAN], [-3.0, NAN]]]
    innovation = [[[NAN, NAN], [0.5, 5.5], [NAN, NAN], [4.0, NAN]]]
    found = columns(track_of, llr, innovation)
    assert found["link_llr"] == pytest.approx(1.0)
    assert found["nis"] == pytest.approx(10 / 3)
    assert found["nis_peak_depth"] == 1.0  # mean 4 there, 3 in layer 1
    assert found["miss_rate"] == pytest.approx(1 / 6)  # track 0 lasts 4 layers with one miss


def test_a_sample_without_links_is_as_text_is():
    nothing = np.full((1, 2, 1), NAN)
    found = columns([[[0], [1]]], nothing, nothing)
    assert found == {"link_llr": 0.0, "nis": 1.0, "nis_peak_depth": 0.0, "miss_rate": 0.0}


def steady(track_of, strengths, logits=None) -> dict[str, float]:
    evidence = evidence_of(strengths, logits=logits)
    flat = survey(evidence, tracks_from(track_of))
    return {name: float(values[0]) for name, values in stability(flat, evidence).items()}


def test_variation_is_that_of_the_five_strongest_confirmed_tracks():
    # tracks 0..4: 10 and 30, deviation 10 over mean 20; track 5, weaker: 1 and 3; track 6: alone
    strengths = np.array([[[10.0] * 5 + [1, 99], [30.0] * 5 + [3, 0]]])
    track_of = [[[0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5, -1]]]
    assert steady(track_of, strengths)["mag_cv"] == pytest.approx(0.5)
    strengths[0, :, 0] = 20.0
    assert steady(track_of, strengths)["mag_cv"] == pytest.approx(0.4)
    assert steady([[[0], [1]]], np.ones((1, 2, 1)))["mag_cv"] == 0


def test_the_trend_is_the_slope_of_the_main_supporters_log_strength():
    # depths .25 to 1; track 1 has most late support; in the last half it goes from 2 to 8
    strengths = np.array([[[1.0, 1.0], [1.0, 5.0], [1.0, 2.0], [1.0, 8.0]]])
    logits = np.zeros((1, 4, 2, 2))
    logits[0, :, 0, 0], logits[0, :, 1, 0] = 0.1, 0.5
    track_of = [[[0, 1]] * 4]
    found = steady(track_of, strengths, logits)
    assert found["winner_trend"] == pytest.approx(np.log(4) / 0.25)
    assert steady(track_of, strengths)["winner_trend"] == 0  # nothing supports the answer
    born_last = [[[0, 1], [0, 2], [0, 3], [0, 4]]]
    assert steady(born_last, strengths, logits)["winner_trend"] == 0


def test_jaccard_weighs_tracks_by_strength_and_takes_adjacent_layers_only():
    # step 1: track 0 has min 1, max 3; track 1 ends with 2: 1 / 5. Step 2: track 0 coasts,
    # track 2 begins: 0. Step 3: nothing of layer 2 goes on: 0.
    strengths = [[[1.0, 2.0], [3.0, 0.0], [0.0, 4.0], [5.0, 0.0]]]
    track_of = [[[0, 1], [0, -1], [-1, 2], [0, -1]]]
    assert steady(track_of, strengths)["set_jaccard"] == pytest.approx((1 / 5) / 3)
    same = np.full((1, 3, 2), 2.0)
    assert steady([[[0, 1]] * 3], same)["set_jaccard"] == pytest.approx(1)
    assert steady([[[0, 1]]], same[:, :1])["set_jaccard"] == 0
