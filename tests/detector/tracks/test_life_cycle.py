import numpy as np
import pytest

from ghosttrack.detector.tracks.life_cycle import (
    LengthNull,
    fit_length_null,
    life_cycle,
    mean_length,
)
from ghosttrack.detector.tracks.track_table import survey
from tests.detector.scenes import evidence_of, tracks_from

NULL = LengthNull(2.0, 0.5)
# Layers 0-3. Track 0 lives through all, 1 dies after layer 1, 2 is born at layer 2 and stays, 3 is
# one observation at layer 3, never confirmed.
TRACK_OF = [[[0, 1, -1], [0, 1, -1], [0, 2, -1], [0, 2, 3]]]
STRENGTHS = [[[1, 3, 0], [1, 3, 0], [1, 1, 0], [1, 2, 1]]]


def columns(track_of=TRACK_OF, strengths=STRENGTHS, depths=None) -> dict[str, float]:
    evidence = evidence_of(strengths, depths=depths)
    found = life_cycle(survey(evidence, tracks_from(track_of)), evidence, NULL)
    return {name: float(values[0]) for name, values in found.items()}


def test_births_and_deaths_are_those_of_confirmed_tracks_inside_the_model():
    found = columns()
    # 9 observations in 4 layers: L0 = 2.25; three steps; one birth, one death.
    assert found["birth_rate"] == pytest.approx(1 / 3 / 2.25)
    assert found["death_rate"] == pytest.approx(1 / 3 / 2.25)
    assert columns([[[0, 1], [0, 1], [0, -1], [0, -1]]])["birth_rate"] == 0


def test_length_excess_is_in_standard_deviations_of_the_null():
    # Confirmed lengths 4, 2, 2: mean 8/3, (8/3 - 2) / 0.5
    assert columns()["len_excess"] == pytest.approx((8 / 3 - 2) / 0.5)


def test_the_null_is_measured_over_samples():
    null = tracks_from([[[0], [0], [0]], [[1], [2], [2]], [[3], [4], [5]]])
    np.testing.assert_allclose(mean_length(null), [3, 2, 0])
    assert fit_length_null(null) == (pytest.approx(5 / 3), pytest.approx(np.std([3, 2, 0])))
    nothing = tracks_from([[[0], [1]]])
    assert fit_length_null(nothing) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("masses", "half_life"),
    [
        ([9, 4, 4, 4], 1.0),  # never below half of the mass at depth 0.5
        ([9, 4, 0, 0], 0.25),  # falls from 4 to 0 in one of two layers: 2 is passed half-way
        ([9, 4, 3, 1], 0.75),  # 3 to 1 passes 2 half-way through the second layer
    ],
)
def test_half_life_is_read_off_the_straight_lines_between_layers(masses, half_life):
    strengths = np.zeros((1, 4, 1))
    strengths[0, :, 0] = masses
    track_of = np.where(strengths > 0, 0, -1)
    assert columns(track_of, strengths)["half_life"] == pytest.approx(half_life)


def test_half_life_is_zero_without_a_confirmed_track_at_half_depth():
    assert columns([[[0], [1], [2], [3]]], np.ones((1, 4, 1)))["half_life"] == 0


def test_late_birth_mass_is_the_share_of_late_strength_in_new_tracks():
    # Late = layer 3: strengths 1 (track 0), 2 (track 2, born before), 1 (track 3, born there).
    assert columns()["late_birth_mass"] == pytest.approx(0.25)
    # Seen from deeper in the model layers 2 and 3 are late, and track 2 is born there as well:
    # 1 + 2 + 1 of 1 + 1 + 1 + 2 + 1.
    assert columns(depths=[0.25, 0.5, 0.8, 1.0])["late_birth_mass"] == pytest.approx(4 / 6)
