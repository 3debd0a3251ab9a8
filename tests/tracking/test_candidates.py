from dataclasses import replace

import numpy as np
import pytest

from ghosttrack.tracking import candidates
from ghosttrack.tracking.candidates import (
    identity_candidates,
    nearest_candidates,
    unrelated_gates,
)
from tests.tracking.worlds import SETTINGS


@pytest.fixture
def directions():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((5, 40, 12))
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    return tuple(rows.astype(np.float32))


@pytest.mark.parametrize(("layer", "gap"), [(0, 1), (3, 1), (0, 2), (2, 2), (1, 3)])
def test_candidates_are_the_nearest_latents_in_order(directions, layer, gap):
    found = nearest_candidates(directions, max_gap=3)
    latents, cosines = (values[found.pair(layer, gap)] for values in (found.latents, found.cosines))
    similarity = directions[layer] @ directions[layer + gap].T
    expected = np.argsort(-similarity, axis=1)[:, :8]
    np.testing.assert_array_equal(latents, expected)
    np.testing.assert_allclose(cosines, np.take_along_axis(similarity, expected, 1), atol=1e-6)


def test_the_size_of_a_block_changes_nothing(directions, monkeypatch):
    whole = nearest_candidates(directions, max_gap=2)
    monkeypatch.setattr(candidates, "BLOCK_VALUES", 7 * 40)
    blocks = nearest_candidates(directions, max_gap=2)
    np.testing.assert_array_equal(blocks.latents, whole.latents)


def test_a_dictionary_smaller_than_the_candidates_gives_all_its_latents(directions):
    few = tuple(rows[:3] for rows in directions)
    latents = nearest_candidates(few, max_gap=1).latents
    assert (np.sort(latents, axis=2) == np.arange(3)).all()


def test_identity_links_every_latent_to_its_own_index(directions):
    found = identity_candidates(directions, max_gap=2)
    latents, cosines = (values[found.pair(1, 2)] for values in (found.latents, found.cosines))
    assert (latents[:, 0] == np.arange(40)).all()
    np.testing.assert_allclose(cosines[:, 0], (directions[1] * directions[3]).sum(1), atol=1e-6)


def test_a_model_of_one_layer_has_no_links(directions):
    assert nearest_candidates(directions[:1], max_gap=3).pairs == []


def test_a_gate_by_itself_shuts_out_what_is_unrelated_and_lets_a_weak_link_in():
    rng = np.random.default_rng(0)
    common = 2 * rng.standard_normal(64)  # all latents share a direction: no cosine near 0 tells
    rows = rng.standard_normal((3, 400, 64)) + common
    rows[1, :100] = rows[0, :100] + 0.4 * rows[1, :100]
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    directions = tuple(rows.astype(np.float32))
    settings = SETTINGS._replace(gate=None)
    found = replace(
        nearest_candidates(directions, max_gap=1), gates=unrelated_gates(directions, max_gap=1)
    )
    assert (found.gates > 0.8).all()
    partners = (found.open_targets(settings) < 400).any(axis=2)
    assert partners[0, :100].mean() > 0.9
    assert partners[0, 100:].mean() < 0.06
    assert partners[1].mean() < 0.06
    assert found.partners(settings) == partners.mean()
