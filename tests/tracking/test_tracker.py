import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghosttrack.tracking import candidates
from ghosttrack.tracking.observations import Observations
from ghosttrack.tracking.tracker import fit_tracker, link
from tests.benchmarks.tracker import plain_tracks, same_tracks
from tests.tracking.planted import PlantedSpec, score
from tests.tracking.worlds import SETTINGS, drawn, flat_tracker, null_of, planted, seen

SAME_INDEX = np.where(np.eye(4, dtype=bool), 3.0, -9.0)


SCENES = st.tuples(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 6), st.integers(0, 2))
"""Seed, layers, slots, misses. The trellis is built in the test: beartype draws random numbers."""


def trellis(seed, n_layers, n_slots, max_misses):
    """A few samples of a small world, and a tracker with random ratios, as hard as can be."""
    rng = np.random.default_rng(seed)
    ratios = rng.normal(size=(6, 6))
    observations = drawn(rng, 4, n_layers, n_slots, d_sae=6, share=0.7)
    return observations, flat_tracker(n_layers, 6, ratios, max_misses=max_misses)


@given(SCENES)
@settings(max_examples=30)
def test_tracks_equal_those_of_a_plain_loop_over_tracks_and_observations(case):
    observations, tracker = trellis(*case)
    ours = link(observations, *tracker).track_of
    assert same_tracks(ours, plain_tracks(observations, tracker))


@given(SCENES)
@settings(max_examples=30)
def test_every_observation_is_in_one_track_and_a_track_has_one_per_layer(case):
    observations, tracker = trellis(*case)
    tracks = link(observations, *tracker)
    assert ((tracks.track_of >= 0) == (observations.latents >= 0)).all()
    sample, layer, slot = np.nonzero(tracks.track_of >= 0)
    owner = tracks.track_of[sample, layer, slot]
    assert (tracks.sample[owner] == sample).all()
    order = np.lexsort((layer, owner))
    same = np.diff(owner[order]) == 0
    step = np.diff(layer[order])[same]
    assert ((step >= 1) & (step <= tracker.settings.max_misses + 1)).all()
    np.testing.assert_array_equal(np.bincount(owner, minlength=len(tracks)), tracks.n_obs)


@given(SCENES, st.integers(0, 2**32))
@settings(max_examples=30)
def test_the_order_of_slots_changes_nothing_but_the_order(case, seed):
    observations, tracker = trellis(*case)
    shape = observations.latents.shape
    order = np.argsort(np.random.default_rng(seed).random(shape), axis=2)
    mixed = Observations(*(np.take_along_axis(values, order, axis=2) for values in observations))
    before, after = link(observations, *tracker), link(mixed, *tracker)
    expected = np.take_along_axis(before.track_of, order, axis=2)
    if len(before):
        assert same_tracks(after.track_of, expected)
    ratios = np.take_along_axis(before.link_llr, order, axis=2)
    np.testing.assert_allclose(after.link_llr, ratios, atol=1e-5)


def test_empty_slots_change_nothing():
    fitted = planted()
    latents, magnitudes = fitted.test.observations
    wide = np.full((*latents.shape[:2], 5), -1)
    padded = Observations(
        np.concatenate([wide, latents], axis=2),
        np.concatenate([np.full(wide.shape, np.nan), magnitudes], axis=2),
    )
    before, after = link(fitted.test.observations, *fitted.tracker), link(padded, *fitted.tracker)
    np.testing.assert_array_equal(after.track_of[..., 5:], before.track_of)
    assert (after.track_of[..., :5] == -1).all()


def test_the_size_of_a_chunk_changes_nothing(monkeypatch):
    fitted = planted()
    whole = link(fitted.test.observations, *fitted.tracker)
    monkeypatch.setattr(candidates, "TABLE_VALUES", 70 * 321)
    parts = link(fitted.test.observations, *fitted.tracker)
    np.testing.assert_array_equal(parts.track_of, whole.track_of)
    np.testing.assert_array_equal(parts.parent, whole.parent)


@pytest.mark.parametrize(
    ("spec", "association"),
    [
        pytest.param(PlantedSpec(), "hungarian", id="moderate clutter"),
        pytest.param(PlantedSpec(), "murty", id="by murty", marks=pytest.mark.slow),
        pytest.param(
            PlantedSpec(n_concepts=600, n_fillers=600, crowding=0.5, clutter=8),
            "hungarian",
            id="look-alikes",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_planted_tracks_are_recovered(spec, association):
    fitted = planted(spec)
    chosen = fitted.tracker.settings._replace(association=association)
    tracks = link(fitted.test.observations, *fitted.tracker._replace(settings=chosen))
    assert min(score(fitted.test.truth, tracks)) >= 0.95


def test_shuffled_links_recover_almost_nothing():
    fitted = planted()
    assert score(fitted.test.truth, null_of(fitted, "shuffled").tracks).idf1 < 0.25


def test_no_tracks_are_found_in_clutter_alone():
    fitted = planted(PlantedSpec(n_living=0, clutter=16))
    tracks = link(fitted.test.observations, *fitted.tracker)
    # 0.2 % of 38,000 observations were linked when this was written
    assert tracks.n_obs.mean() < 1.01


def test_a_track_coasts_over_a_miss_and_not_over_more_than_allowed():
    observations = seen((2, -1), (-1, -1), (-1, 2), (-1, -1), (-1, -1), (-1, -1), (2, -1))
    tracks = link(observations, *flat_tracker(7, 4, SAME_INDEX))
    # layers 0 and 2 are one track, with one miss; layer 6 lies 4 below, with 3 misses: too many
    assert tracks.lengths().tolist() == [3, 1]
    assert tracks.n_misses().tolist() == [1, 0]
    assert tracks.confirmed.tolist() == [True, False]
    strict = link(observations, *flat_tracker(7, 4, SAME_INDEX, max_misses=0))
    assert strict.lengths().tolist() == [1, 1, 1]


def test_a_link_has_its_ratio():
    tracks = link(seen((1,), (1,), (-1,), (1,)), *flat_tracker(4, 4, SAME_INDEX))
    # 3 for the first link, 3 - 1 for the one over a miss
    np.testing.assert_array_equal(tracks.link_llr[0, :, 0], [np.nan, 3, np.nan, 2])


def test_a_birth_that_a_continued_track_explains_is_its_split():
    ratios = np.full((4, 4), -9.0)
    ratios[0, 1], ratios[0, 2] = 3, 2
    tracks = link(seen((0, -1), (2, 1)), *flat_tracker(2, 4, ratios))
    # latent 0 goes on as 1 (track 0); 2 is born beside it (track 1)
    assert tracks.track_of[0].tolist() == [[0, -1], [1, 0]]
    assert tracks.parent.tolist() == [-1, 0]
    assert tracks.merged_into.tolist() == [-1, -1]


def test_a_track_whose_only_heir_is_taken_merges_into_the_heirs_track():
    ratios = np.full((4, 4), -9.0)
    ratios[0, 2], ratios[1, 2] = 2, 3
    tracks = link(seen((0, 1), (-1, 2)), *flat_tracker(2, 4, ratios))
    assert tracks.track_of[0].tolist() == [[0, 1], [-1, 1]]
    assert tracks.merged_into.tolist() == [1, -1]
    assert tracks.parent.tolist() == [-1, -1]


def test_a_track_that_goes_on_after_its_heir_was_taken_did_not_merge():
    ratios = np.full((4, 4), -9.0)
    ratios[0, 2], ratios[1, 2], ratios[0, 3] = 2, 3, 3
    tracks = link(seen((0, 1), (-1, 2), (3, -1)), *flat_tracker(3, 4, ratios))
    assert tracks.track_of[0].tolist() == [[0, 1], [-1, 1], [0, -1]]
    assert tracks.merged_into.tolist() == [-1, -1]


def test_identity_follows_the_index_whatever_the_direction():
    fitted = planted()
    by_index = SETTINGS._replace(association="identity")
    tracker = fit_tracker(fitted.world.directions, fitted.text, by_index)
    tracks = link(fitted.test.observations, *tracker)
    latents = fitted.test.observations.latents
    there = latents >= 0
    mixed = np.unique(np.stack([tracks.track_of[there], latents[there]]), axis=1)
    assert mixed.shape[1] == len(tracks)
