import numpy as np
import pytest

from ghosttrack.tracking.candidates import nearest_candidates
from ghosttrack.tracking.graph import MOST_SHARE, PRIOR_OCCASIONS, AssociationGraph, fit_graph
from ghosttrack.tracking.observations import Observations
from ghosttrack.tracking.tracker import link
from tests.tracking.worlds import SETTINGS, planted

N = 1000
CANDIDATES = nearest_candidates((np.eye(3, dtype=np.float32),) * 2, max_gap=1)


@pytest.fixture(scope="module")
def pair_of_layers():
    """Latent 0 in samples 0..399 of layer 0; latent 0 of layer 1 in 0..319 and in 400..519.

    Latents 1 are there in every other sample of both layers; directions of equal index are equal.
    """
    latents = np.full((N, 2, 2), -1)
    latents[:400, 0, 0] = 0
    latents[:320, 1, 0] = 0
    latents[400:520, 1, 0] = 0
    latents[::2, 0, 1] = 1
    latents[1::2, 1, 1] = 1
    text = Observations(latents, np.zeros(latents.shape))
    return fit_graph(CANDIDATES, text, SETTINGS._replace(max_misses=0))


def test_persistence_is_the_excess_over_chance_drawn_to_the_cosines_mean(pair_of_layers):
    # f = 440 / 1000; excess of 0-0: 320 - 400 * 0.44 = 144; room: 400 * 0.56 = 224 -> 0.643
    # 1-1 never meet: excess -500 * 0.5 = -250, room 250 -> -1
    # both have cosine 1, but isotonic regression sees equal cosines in order, -1 or .643 first;
    # either way S is within [1e-4, 0.643], and 10 occasions of it move 144 / 224 by little
    graph = pair_of_layers
    rank = int(np.flatnonzero(graph.latents[0, 0] == 0)[0])
    frequency = 440.5 / 1001
    share = np.exp(graph.link[0, 0, rank]) * frequency
    low, high = 144 / (224 + PRIOR_OCCASIONS), (144 + PRIOR_OCCASIONS * 0.643) / 234
    assert low - 1e-3 < share < high + 1e-3
    np.testing.assert_allclose(graph.miss[0, 0], -np.log1p(-share), rtol=1e-4)
    explained = share * 0.4 / frequency
    np.testing.assert_allclose(graph.birth[1, 0], -np.log1p(-explained), rtol=1e-4)


def test_latents_that_avoid_one_another_are_no_link(pair_of_layers):
    graph = pair_of_layers
    rank = int(np.flatnonzero(graph.latents[0, 1] == 1)[0])
    assert graph.link[0, 1, rank] < -5
    assert graph.miss[0, 1] < 0.01


def test_costs_are_bounded(pair_of_layers):
    for costs in (pair_of_layers.miss, pair_of_layers.birth):
        assert costs.min() >= 0
        assert costs.max() <= -np.log1p(-MOST_SHARE) + 1e-6


def test_a_link_that_holds_outweighs_one_that_chance_explains():
    fitted = planted()
    spec, graph = fitted.world.spec, fitted.tracker.graph
    source, target = fitted.world.latent_of[2, : spec.n_concepts], fitted.world.latent_of[3]
    is_own = graph.latents[graph.pair(2, 1), source] == target[: spec.n_concepts, None]
    is_open = graph.cosines[graph.pair(2, 1), source] >= SETTINGS.gate
    ratio = graph.link[graph.pair(2, 1), source]
    # concepts seen in under 3 % of the samples hardly have a count of their own
    common = np.arange(spec.n_concepts) < 80
    assert is_own[common].any(axis=1).all()
    assert ratio[common][is_own[common]].min() > 0
    if (other := common[:, None] & is_open & ~is_own).any():
        assert ratio[other].mean() < ratio[common][is_own[common]].mean() - 2


def test_the_surprise_of_a_linked_magnitude_is_one_on_average():
    fitted = planted()
    tracks = link(fitted.test.observations, *fitted.tracker)
    # 200 samples hold about 15,000 links; wrong links and choosing by surprise move it a little
    assert abs(np.nanmean(tracks.innovation) - 1) < 0.1


def test_the_planted_memory_of_magnitudes_is_found():
    fitted = planted()
    slope = fitted.tracker.graph.slope[: fitted.world.spec.n_layers - 1]
    # 0.9 planted; clutter that is linked by chance draws it down
    np.testing.assert_allclose(slope, fitted.world.spec.memory, atol=0.05)


def test_a_graph_comes_back_from_its_arrays():
    graph = planted().tracker.graph
    back = AssociationGraph.from_arrays(graph.arrays())
    for name, values in vars(graph).items():
        np.testing.assert_array_equal(getattr(back, name), values)


def test_text_of_empty_slots_fits_links_that_never_pay():
    text = Observations(np.full((5, 2, 4), -1), np.zeros((5, 2, 4)))
    graph = fit_graph(CANDIDATES, text, SETTINGS._replace(max_misses=0))
    assert np.isfinite(graph.link).all()
    assert graph.link.max() <= 0


def test_without_coactivation_a_link_is_what_its_cosine_suggests(pair_of_layers):
    latents = np.full((N, 2, 2), -1)
    latents[:400, 0, 0] = latents[:320, 1, 0] = 0
    latents[::2, 0, 1] = latents[1::2, 1, 1] = 1
    text = Observations(latents, np.zeros(latents.shape))
    lean = SETTINGS._replace(max_misses=0, clues=frozenset[str]())
    graph = fit_graph(CANDIDATES, text, lean)
    own = [int(np.flatnonzero(graph.latents[0, i] == i)[0]) for i in (0, 1)]
    share = [np.exp(graph.link[0, i, own[i]]) * f for i, f in ((0, 320.5), (1, 500.5))]
    # 0-0 always meet and 1-1 never, but both have cosine 1
    np.testing.assert_allclose(share[0], share[1], rtol=1e-4)
    assert pair_of_layers.link[0, 0, own[0]] > graph.link[0, 0, own[0]] + 1


def test_without_magnitudes_a_link_does_not_ask_for_them():
    fitted = planted()
    lean = fitted.tracker.settings._replace(clues=frozenset({"coactivation"}))
    observations = fitted.test.observations
    other = observations._replace(magnitudes=np.zeros_like(observations.magnitudes))
    by_both = [link(one, *fitted.tracker).track_of for one in (observations, other)]
    by_one = [
        link(one, *fitted.tracker._replace(settings=lean)).track_of for one in (observations, other)
    ]
    np.testing.assert_array_equal(*by_one)
    assert (by_both[0] != by_both[1]).any()
