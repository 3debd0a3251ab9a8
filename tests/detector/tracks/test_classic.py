import numpy as np
import pytest

from ghosttrack.detector.tracks.classic import classic
from ghosttrack.detector.tracks.track_table import survey
from tests.detector.scenes import evidence_of, tracks_from


def columns(track_of, strengths) -> dict[str, float]:
    flat = survey(evidence_of(strengths), tracks_from(track_of))
    return {name: float(values[0]) for name, values in classic(flat).items()}


def test_two_layers_by_hand():
    # Layer 0: strengths 3 (track 0) and 1 (track 1); layer 1: 2 (track 0) and 2 (track 2).
    found = columns([[[0, 1], [0, 2]]], [[[3, 1], [2, 2]]])
    shares = np.array([0.75, 0.25])
    low = -(shares * np.log(shares)).sum() / np.log(2)
    assert found["classic_entropy_mean"] == pytest.approx((low + 1) / 2)
    assert found["classic_entropy_slope"] == pytest.approx((1 - low) / 0.5)  # from depth 0.5 to 1
    # A quarter of layer 0 ends, a half of layer 1 begins.
    assert found["classic_churn_mean"] == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert found["classic_churn_late"] == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert found["classic_competition_second"] == pytest.approx((1 / 3 + 1) / 2)
    assert found["classic_competition_near"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["classic_stability_cv"] == pytest.approx(0.5 / 2.5)  # strengths 3 and 2
    assert found["classic_stability_long"] == pytest.approx(5 / 8)
    assert found["classic_dominance_mean"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert found["classic_dominance_final"] == pytest.approx(1 / 2)
    # Masses 5, 1, 2: sum of |differences| over pairs 4 + 3 + 1, over n * total = 3 * 8
    assert found["classic_dominance_gini"] == pytest.approx(8 / 24)
    assert found["classic_density_tracks"] == pytest.approx(3 / 4)
    assert found["classic_density_confirmed"] == pytest.approx(2 / 4)


def test_strength_has_no_unit():
    rng = np.random.default_rng(0)
    strengths = rng.random((1, 6, 5)) + 0.1
    track_of = np.broadcast_to(np.arange(5), strengths.shape)
    one, other = columns(track_of, strengths), columns(track_of, 7 * strengths)
    assert one == pytest.approx(other, abs=1e-6)


def test_layers_without_observations_are_left_out_of_means():
    full = columns([[[0, 1], [0, 1]]], [[[3, 1], [3, 1]]])
    gap = columns([[[0, 1], [-1, -1], [0, 1]]], [[[3, 1], [0, 0], [3, 1]]])
    for name in ("classic_entropy_mean", "classic_dominance_mean", "classic_competition_second"):
        assert gap[name] == pytest.approx(full[name])
