import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghosttrack.detector.tracks.track_table import layers_within


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
