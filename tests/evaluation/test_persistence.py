import numpy as np
import pytest

from ghosttrack.evaluation.bootstrap import resample
from ghosttrack.evaluation.persistence import persistence

LENGTH = "layers of a confirmed track"
GROUPS = [f"g{index // 2}" for index in range(200)]


def test_mean_lengths_and_difference_by_hand():
    # Real tracks: 3, 1, 3, 1, ... with mean 2; those of the null: 1, where there are any.
    real = np.tile([3.0, 1.0], 100)
    null = np.where(np.arange(200) < 50, np.nan, 1.0)
    (row,) = persistence(LENGTH, {"tracks": real, "null:shuffled": null}, resample(GROUPS, 200, 0))
    assert (row.measure, row.null, row.n) == (LENGTH, "null:shuffled", 200)
    assert row.mean == pytest.approx(2)
    assert row.null_mean == pytest.approx(1)
    assert row.difference == pytest.approx(1)
    # Every group holds a 3 and a 1: no resample can differ.
    assert row.ci == pytest.approx((1, 1))


def test_equal_lengths_have_a_difference_of_zero_on_every_resample():
    lengths = np.random.default_rng(0).exponential(size=200)
    lasting = {"tracks": lengths, "null:none": lengths}
    (row,) = persistence(LENGTH, lasting, resample(GROUPS, 100, 0))
    assert row.ci == (0, 0)
    assert row.mean_ci.low < row.mean < row.mean_ci.high


def test_without_real_tracks_there_is_nothing_to_compare():
    assert persistence(LENGTH, {}, resample(GROUPS, 10, 0)) == ()
