import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghosttrack.detector.tracks import clusters as module
from ghosttrack.detector.tracks.clusters import clusters
from ghosttrack.detector.tracks.track_table import survey
from tests.detector.scenes import evidence_of, random_case, tracks_from


def found(strengths, track_of, directions, near: float = 0.9) -> dict[str, np.ndarray]:
    evidence = evidence_of(strengths)._replace(
        directions=np.asarray(directions, dtype=np.float32), near=near
    )
    return clusters(survey(evidence, tracks_from(track_of)), evidence)


def angle(degrees: float) -> list[float]:
    return [np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]


def test_tracks_of_one_direction_are_one_cluster():
    # Tracks 0 and 1 point to 10 and 0 degrees on average, track 2 to 90; 3 is not confirmed.
    directions = [
        [angle(0), angle(0), angle(90), angle(0)],
        [angle(20), angle(0), angle(90), angle(0)],
    ]
    track_of = [[[0, 1, 2, 3], [0, 1, 2, -1]]]
    strengths = [[[3.0, 1.0, 1.0, 9.0], [1.0, 1.0, 1.0, 0.0]]]
    columns = found(strengths, track_of, directions)
    assert columns["n_clusters"][0] == pytest.approx(2 / 3)
    assert columns["cluster_share"][0] == pytest.approx(6 / 8)
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) / np.log(2)
    assert columns["cluster_entropy"][0] == pytest.approx(entropy)


def test_neighbours_of_neighbours_belong_together():
    # cos 20 = .94 joins 0 with 20 and 20 with 40 degrees; cos 40 = .77 alone would not.
    directions = [[angle(0), angle(20), angle(40), angle(90)]] * 2
    columns = found(np.ones((1, 2, 4)), [[[0, 1, 2, 3]] * 2], directions)
    assert columns["n_clusters"][0] == pytest.approx(2 / 4)
    assert columns["cluster_share"][0] == pytest.approx(3 / 4)


def test_opposite_directions_are_not_one():
    directions = [[angle(0), angle(180)]] * 2
    columns = found(np.ones((1, 2, 2)), [[[0, 1]] * 2], directions)
    assert columns["n_clusters"][0] == 1


def test_a_sample_without_confirmed_tracks_has_no_cluster():
    columns = found(np.ones((2, 1, 2)), [[[0, 1]], [[2, 3]]], [[angle(0), angle(0)]])
    for values in columns.values():
        np.testing.assert_array_equal(values, [0, 0])


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_blocks_change_no_number(seed):
    evidence, tracks = random_case(np.random.default_rng(seed))
    flat = survey(evidence, tracks)
    whole = clusters(flat, evidence)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_FLOATS", 1)
        for name, values in clusters(flat, evidence).items():
            np.testing.assert_array_equal(values, whole[name])
