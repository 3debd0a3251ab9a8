from dataclasses import replace

import numpy as np
import pytest

from ghosttrack.detector.table import Table
from ghosttrack.detector.tracks.causal import COLUMNS
from ghosttrack.evaluation.bootstrap import resample
from ghosttrack.evaluation.claim import causal_rates, claim, persistence
from ghosttrack.evaluation.result import UNDEFINED, Interval, Pair
from ghosttrack.evaluation.roster import DECISIVE_NULL, GAIN

LENGTH = "layers of a confirmed track"
GROUPS = [f"g{index // 2}" for index in range(200)]


def pairs(gain: float, null: float) -> tuple[Pair, ...]:
    """Differences with intervals of 0.01 to each side, and one that must not be read."""
    decisive = [
        Pair(*names, "all", delta, Interval(delta - 0.01, delta + 0.01))
        for names, delta in ((GAIN, gain), (DECISIVE_NULL, null))
    ]
    return (*decisive, Pair(*GAIN, "p>0.5", 0.5, Interval(0.4, 0.6)))


def test_tracking_helps_when_both_intervals_are_above_zero():
    assert claim(pairs(0.02, 0.03)) == (
        "Tracking helps: tracks add +0.020 [+0.010, +0.030] AUROC to output scores, probe and raw "
        "latents; real links score +0.030 [+0.020, +0.040] against shuffled ones (95 % paired "
        "intervals, above 0 for every null)."
    )


@pytest.mark.parametrize(
    ("gain", "null"), [(0.005, 0.03), (0.02, 0.0), (-0.02, 0.03), (0.02, -1.0)]
)
def test_tracking_is_not_said_to_help_when_either_interval_is_not_above_zero(gain, null):
    assert claim(pairs(gain, null)).startswith("Tracking is not shown to help: ")


def test_it_is_said_in_words_where_tracks_add_nothing():
    said = claim(pairs(0.005, -0.02))
    assert "Statistics of tracks are not shown to add to the others." in said
    beaten = "Real links are not shown to beat those that mean nothing (shuffled): what statistics"
    assert said.endswith(f"{beaten} of tracks tell need not come from following latents.")
    other = Pair("tracks", "null:none", "all", 0.0, Interval(-0.01, 0.01))
    assert "those that mean nothing (none): " in claim((*pairs(0.02, 0.03), other))


def test_an_interval_that_is_not_defined_beats_nothing():
    gain, null, part = pairs(0.02, 0.03)
    for one in (replace(gain, ci=UNDEFINED), replace(null, ci=UNDEFINED)):
        found = (one, null if one.b == gain.b else gain, part)
        assert claim(found).startswith("Tracking is not shown to help")


def test_what_was_not_compared_is_not_claimed():
    assert claim(pairs(0.02, 0.03)[:1]) == (
        "Whether tracking helps was not tested: this evaluation has no tracks minus null:shuffled."
    )


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


def links(pair, passes, by_chance=None) -> Table:
    by_chance = np.zeros(len(pair)) if by_chance is None else by_chance
    columns = (pair, np.arange(len(pair)), np.full(len(pair), 0.5), np.full(len(pair), 0.25))
    return Table(COLUMNS, np.column_stack([*columns, passes, by_chance]).astype(float))


def test_the_causal_rate_is_the_share_of_links_that_pass_per_pair_and_overall():
    found = causal_rates(links([0, 0, 0, 0, 1, 1], [1, 1, 1, 0, 1, 1]), (2, 5, 9), 500, 0)
    assert [(row.layers, row.n, row.rate) for row in found] == [
        *(("all", 6, 5 / 6), ("2 to 5", 4, 0.75), ("5 to 9", 2, 1.0)),
    ]
    assert found[0].ci.low < 5 / 6 < found[0].ci.high
    assert {(row.drop, row.carried) for row in found} == {(0.5, 0.25)}


def test_the_rate_is_set_against_that_of_pairs_that_no_link_joins():
    generator = np.random.default_rng(0)
    passes, by_chance = (generator.random((2, 400)) < [[0.5], [0.1]]).astype(float)
    by_chance[::4] = np.nan  # a window without such a pair
    (row, _) = causal_rates(links(np.zeros(400), passes, by_chance), (0, 1), 500, 0)
    assert row.chance == np.nanmean(by_chance)
    assert row.net == row.rate - row.chance
    assert row.chance_ci.low < row.chance < row.chance_ci.high < 0.2
    assert 0.3 < row.net_ci.low < row.net < row.net_ci.high < 0.5


def test_windows_are_drawn_whole():
    # 50 windows of four links that pass or fail together: as wide as 50 links, sd of a half / 7
    passes = np.repeat(np.arange(50) % 2, 4)
    table = links(np.zeros(200), passes)
    table.values[:, COLUMNS.index("window")] = np.repeat(np.arange(50), 4)
    (row, _) = causal_rates(table, (0, 1), 2000, 0)
    assert row.ci.high - row.ci.low == pytest.approx(2 * 1.96 * 0.5 / 50**0.5, rel=0.15)


def test_without_links_there_is_no_rate():
    assert causal_rates(None, (0, 1), 10, 0) == causal_rates(links([], []), (0, 1), 10, 0) == ()
