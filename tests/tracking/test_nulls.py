from functools import cache

import numpy as np
import pytest

from ghosttrack.tracking import nulls
from ghosttrack.tracking.nulls import FREQUENCY_BIN
from ghosttrack.tracking.tracker import link
from tests.tracking.worlds import null_of, planted

KINDS = ["none", "shuffled", "random_dictionary", "permuted_layers"]


@cache
def run(kind, seed=0):
    return null_of(planted(), kind, seed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_null_depends_on_its_seed_alone(kind):
    first, second = run(kind), run.__wrapped__(kind)
    np.testing.assert_array_equal(first.tracks.track_of, second.tracks.track_of)
    other = run(kind, seed=1).tracks.track_of
    assert (kind == "none") == np.array_equal(first.tracks.track_of, other)


def test_without_association_every_observation_is_a_track():
    tracks = run("none").tracks
    assert (tracks.n_obs == 1).all()
    assert len(tracks) == (planted().test.observations.latents >= 0).sum()


def test_shuffled_targets_are_others_that_are_active_about_as_often():
    latents = planted().test.observations.latents[:, 3]
    d_sae = planted().tracker.graph.d_sae
    stand_in = nulls._exchange(latents, d_sae, np.random.default_rng(0))
    assert sorted(stand_in) == list(range(d_sae))
    assert (stand_in != np.arange(d_sae)).all()
    count = np.bincount(latents[latents >= 0], minlength=d_sae)
    in_order = np.sort(count)
    # places among equals are drawn by lot, so the reach counts from the ends of each run of equals
    first, last = (np.searchsorted(in_order, count, side) for side in ("left", "right"))
    low = in_order[np.maximum(first - FREQUENCY_BIN, 0)]
    high = in_order[np.minimum(last - 1 + FREQUENCY_BIN, d_sae - 1)]
    assert ((count[stand_in] >= low) & (count[stand_in] <= high)).all()


def test_shuffled_links_keep_their_sources_their_ratios_and_their_targets_costs():
    fitted = planted()
    real, observations = fitted.tracker, fitted.test.observations
    null = nulls._shuffled(real, observations, np.random.default_rng(0))
    assert null.graph.cosines is real.graph.cosines
    assert null.graph.link is real.graph.link
    for pair, (layer, gap) in enumerate(real.graph.pairs):
        old, new = real.graph.latents[pair].ravel(), null.graph.latents[pair].ravel()
        stand_in = dict(zip(old.tolist(), new.tolist(), strict=True))
        assert [stand_in[j] for j in old.tolist()] == new.tolist()
        birth = real.graph.birth[layer + gap], null.graph.birth[layer + gap]
        np.testing.assert_array_equal(birth[0][old], birth[1][new])


def test_a_random_dictionary_opens_as_many_links():
    fitted = planted()
    null = nulls._random_dictionary(
        fitted.tracker, fitted.world.directions, fitted.text, np.random.default_rng(0)
    )
    for ours, theirs in zip(null.graph.cosines, fitted.tracker.graph.cosines, strict=True):
        np.testing.assert_array_equal(np.sort(ours, axis=None), np.sort(theirs, axis=None))
    assert (np.diff(null.graph.cosines, axis=2) <= 0).all()


@pytest.mark.parametrize("n_layers", [4, 6, 12])
def test_permuted_layers_leave_none_beside_its_neighbour(n_layers):
    order = nulls._order_without_neighbours(n_layers, np.random.default_rng(0))
    assert sorted(order) == list(range(n_layers))
    assert (np.abs(np.diff(order)) > 1).all()


def test_permuted_layers_hand_back_the_order_that_was_tracked():
    null, latents = run("permuted_layers"), planted().test.observations.latents
    assert ((null.tracks.track_of >= 0) == (latents[:, null.order] >= 0)).all()


@pytest.mark.parametrize("kind", ["none", "shuffled", "random_dictionary"])
def test_planted_tracks_last_longer_than_the_nulls(kind):
    fitted = planted()
    real, null = link(fitted.test.observations, *fitted.tracker), run(kind).tracks
    assert real.lengths().mean() > null.lengths().mean() + 1
    by_observation = [np.average(one.lengths(), weights=one.n_obs) for one in (real, null)]
    assert by_observation[0] > by_observation[1] + 2
    if null.confirmed.any():
        confirmed = [one.lengths()[one.confirmed].mean() for one in (real, null)]
        assert confirmed[0] >= confirmed[1] + 1
