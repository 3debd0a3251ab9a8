from dataclasses import replace

import numpy as np
import pytest

from ghosttrack.detector.tracks.linkage import linkage
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
