from dataclasses import replace

import pytest

from ghosttrack.evaluation.claim import claim
from ghosttrack.evaluation.result import UNDEFINED, Interval, Pair
from ghosttrack.evaluation.roster import DECISIVE_NULL, GAIN


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
    assert "Statistics of tracks add nothing to the others." in said
    assert said.endswith(
        "Links that mean nothing do as well (shuffled): following them adds nothing."
    )
    other = Pair("tracks", "null:none", "all", 0.0, Interval(-0.01, 0.01))
    assert claim((*pairs(0.02, 0.03), other)).endswith(
        "do as well (none): following them adds nothing."
    )


def test_an_interval_that_is_not_defined_beats_nothing():
    gain, null, part = pairs(0.02, 0.03)
    for one in (replace(gain, ci=UNDEFINED), replace(null, ci=UNDEFINED)):
        found = (one, null if one.b == gain.b else gain, part)
        assert claim(found).startswith("Tracking is not shown to help")


def test_what_was_not_compared_is_not_claimed():
    assert claim(pairs(0.02, 0.03)[:1]) == (
        "Whether tracking helps was not tested: this evaluation has no tracks minus null:shuffled."
    )
