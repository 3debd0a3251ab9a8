import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghosttrack.detector.tracks.track_table import entropy, gini, layers_within, survey
from tests.detector.scenes import evidence_of, random_case, tracks_from


def test_sums_go_to_their_sample_layer_and_track():
    flat = survey(
        evidence_of([[[1, 2], [4, 0]], [[8, 0], [16, 32]]]),
        tracks_from([[[0, 1], [0, -1]], [[2, -1], [3, 2]]]),
    )
    np.testing.assert_array_equal(flat.per_layer(flat.strength), [[3, 4], [8, 48]])
    np.testing.assert_array_equal(flat.per_layer(), [[2, 1], [1, 2]])
    np.testing.assert_array_equal(flat.per_sample(flat.strength), [7, 56])
    np.testing.assert_array_equal(flat.per_track(flat.strength), [5, 2, 40, 16])
    np.testing.assert_array_equal(flat.tracks_per_sample(np.ones(4)), [2, 2])


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_rows_ascend_by_sample_and_layer(seed):
    flat = survey(*random_case(np.random.default_rng(seed)))
    key = flat.sample * flat.n_layers + flat.layer
    assert (np.diff(key) >= 0).all()


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=20), st.floats(0.01, 100))
def test_gini_does_not_know_the_unit_and_lies_in_zero_to_one(values, factor):
    values, group = np.array(values), np.zeros(len(values), dtype=int)
    found = gini(group, values, 1)[0]
    assert 0 <= found < 1
    assert gini(group, values * factor, 1)[0] == pytest.approx(found, abs=1e-9)
    pairs = np.abs(values[:, None] - values[None]).sum() / (2 * len(values) * values.sum())
    assert found == pytest.approx(pairs, abs=1e-9)  # its other definition, by mean difference


def test_gini_of_groups_is_that_of_each_alone():
    rng = np.random.default_rng(0)
    group, values = rng.integers(0, 5, 60), rng.random(60)
    alone = [
        gini(np.zeros((group == g).sum(), dtype=int), values[group == g], 1)[0] for g in range(6)
    ]
    np.testing.assert_allclose(gini(group, values, 6), alone)


def test_entropy_is_one_for_equal_masses_and_zero_for_one():
    found = entropy(np.array([[2.0, 2.0, 2.0], [0.0, 5.0, 0.0]]))
    np.testing.assert_allclose(found, [1, 0], atol=1e-12)


@pytest.mark.parametrize("n_layers", [4, 8, 12, 24, 32])
def test_the_last_quarter_is_a_quarter_of_the_layers(n_layers):
    depths = np.arange(1, n_layers + 1) / n_layers
    late = layers_within(depths, 0.75, 1.0)
    np.testing.assert_array_equal(late, np.arange(n_layers * 3 // 4, n_layers))


@given(st.integers(1, 40), st.floats(0, 0.9))
def test_no_window_is_empty(n_layers, low):
    depths = np.arange(1, n_layers + 1) / n_layers
    chosen = layers_within(depths, low, low + 0.1)
    assert len(chosen) >= 1
    assert set(chosen.tolist()) <= set(range(n_layers))


def test_a_bank_of_few_layers_is_cut_by_the_depth_of_the_model():
    depths = np.array([3, 5]) / 6  # layers 2 and 4 of six
    np.testing.assert_array_equal(layers_within(depths, 0.75, 1.0), [1])
    np.testing.assert_array_equal(layers_within(depths, 0.5, 0.75), [0])  # nearest to 0.625
