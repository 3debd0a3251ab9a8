import numpy as np
import pytest

from ghosttrack.tracking import links as links_module
from ghosttrack.tracking.links import LinkGraph, identity_graph, link_graph


@pytest.fixture
def directions():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((5, 40, 12))
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    return tuple(rows.astype(np.float32))


@pytest.mark.parametrize(("layer", "gap"), [(0, 1), (3, 1), (0, 2), (2, 2), (1, 3)])
def test_candidates_are_the_nearest_latents_in_order(directions, layer, gap):
    latents, cosines = link_graph(directions, max_gap=3).candidates(layer, gap)
    similarity = directions[layer] @ directions[layer + gap].T
    expected = np.argsort(-similarity, axis=1)[:, :8]
    np.testing.assert_array_equal(latents, expected)
    np.testing.assert_allclose(cosines, np.take_along_axis(similarity, expected, 1), atol=1e-6)


def test_the_size_of_a_block_changes_nothing(directions, monkeypatch):
    whole = link_graph(directions, max_gap=2)
    monkeypatch.setattr(links_module, "BLOCK_VALUES", 7 * 40)
    blocks = link_graph(directions, max_gap=2)
    np.testing.assert_array_equal(blocks.latents, whole.latents)


def test_a_dictionary_smaller_than_the_candidates_gives_all_its_latents(directions):
    few = tuple(rows[:3] for rows in directions)
    latents, _ = link_graph(few, max_gap=1).candidates(0, 1)
    assert (np.sort(latents, axis=1) == np.arange(3)).all()


def test_identity_links_every_latent_to_its_own_index(directions):
    latents, cosines = identity_graph(directions, max_gap=2).candidates(1, 2)
    assert (latents[:, 0] == np.arange(40)).all()
    np.testing.assert_allclose(cosines[:, 0], (directions[1] * directions[3]).sum(1), atol=1e-6)


def test_a_graph_comes_back_from_its_arrays(directions):
    graph = link_graph(directions, max_gap=3)
    back = LinkGraph.from_arrays(graph.arrays())
    assert back.pairs == graph.pairs
    np.testing.assert_array_equal(back.candidates(1, 3), graph.candidates(1, 3))


def test_a_model_of_one_layer_has_no_links(directions):
    assert link_graph(directions[:1], max_gap=3).pairs == []
