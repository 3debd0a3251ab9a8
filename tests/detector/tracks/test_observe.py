import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ghosttrack.detector.tracks import observe as module
from ghosttrack.detector.tracks.observe import (
    Standard,
    fit_standard,
    observe,
    observe_pooled,
    raw_latents,
    strengths_of,
)
from ghosttrack.sae.bank import Bank

PLAIN = Standard(np.zeros(2), np.ones(2))


def bank(d_model: int = 8, d_sae: int = 24, k: int = 4) -> Bank:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Bank(["layer_0", "layer_1"], d_model, d_sae, k)
        made.b_enc.data += 0.1 * torch.randn(made.b_enc.shape)
    made.scale.copy_(torch.tensor([0.5, 2.0]))
    return made


def residuals(n: int = 40, d_model: int = 8) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(2, n, d_model)).astype(np.float32)


def hand_bank() -> Bank:
    """Two latents that read and write the two axes; the second hook doubles its input."""
    made = Bank(["layer_0", "layer_1"], 2, 2, 2)
    made.W_enc.data = torch.eye(2).expand(2, 2, 2).clone()
    made.W_dec.data = torch.eye(2).expand(2, 2, 2).clone()
    made.scale.copy_(torch.tensor([1.0, 2.0]))
    return made


def test_strength_is_the_projection_over_the_root_mean_square():
    x = np.array([[[3.0, 4.0]], [[3.0, -4.0]]], dtype=np.float32)  # rms = 5 / sqrt 2
    seen = observe(hand_bank(), x, 2, PLAIN)
    latents, strengths = seen.observations.latents[0], seen.strengths[0]
    by_latent = [dict(zip(*pair, strict=True)) for pair in zip(latents, strengths, strict=True)]
    assert by_latent[0][0] == pytest.approx(3 * 2**0.5 / 5)
    assert by_latent[0][1] == pytest.approx(4 * 2**0.5 / 5)
    assert by_latent[1] == {0: pytest.approx(3 * 2**0.5 / 5), -1: 0.0}  # the second is negative
    assert sorted(seen.acts[0, 0]) == pytest.approx([3, 4])  # units of the residual stream
    assert sorted(seen.acts[0, 1]) == pytest.approx([0, 3])


@settings(max_examples=25)
@given(st.floats(0.01, 100))
def test_a_longer_residual_is_no_stronger(factor):
    plain = hand_bank()
    one = observe(plain, residuals(d_model=2), 2, PLAIN)
    other = observe(plain, residuals(d_model=2) * np.float32(factor), 2, PLAIN)
    np.testing.assert_array_equal(one.observations.latents, other.observations.latents)
    np.testing.assert_allclose(one.strengths, other.strengths, rtol=1e-4)


def test_a_latent_stands_once_in_a_layer_and_observations_may_exceed_k():
    latents = observe(bank(k=4), residuals(), 24, PLAIN).observations.latents
    there = latents >= 0
    assert there.sum(axis=2).max() > 4
    for row, mask in zip(latents.reshape(-1, 24), there.reshape(-1, 24), strict=True):
        assert len(set(row[mask].tolist())) == mask.sum()


def test_what_the_reconstruction_leaves_out_is_not_written():
    seen = observe(bank(k=4), residuals(), 24, PLAIN)
    assert ((seen.acts > 0).sum(axis=2) == 4).all()
    written = np.zeros((2, 40, 8))
    for layer, rows in enumerate(bank(k=4).directions.numpy()):
        written[layer] = np.einsum(
            "no,nod->nd", seen.acts[:, layer], rows[seen.observations.latents[:, layer]]
        )
    with torch.no_grad():
        whole = bank(k=4)(torch.from_numpy(residuals())).numpy()
    np.testing.assert_allclose(written, whole, atol=1e-5)  # b_dec is 0


def test_magnitudes_of_the_text_they_were_fitted_on_are_standard():
    found = observe(bank(), residuals(), 6, fit_standard(bank(), residuals(), 6)).observations
    for layer in range(2):
        values = found.magnitudes[:, layer][found.latents[:, layer] >= 0]
        assert values.mean() == pytest.approx(0, abs=1e-5)
        assert values.std() == pytest.approx(1, abs=1e-5)


def test_a_layer_without_variation_is_only_shifted():
    same = np.ones((2, 3, 2), dtype=np.float32)
    np.testing.assert_array_equal(fit_standard(hand_bank(), same, 2).sd, [1, 1])


def test_strengths_of_finds_the_same_latents_again():
    seen = observe(bank(), residuals(), 6, PLAIN)
    again = strengths_of(bank(), residuals(), seen.observations.latents)
    np.testing.assert_allclose(again, seen.strengths, atol=1e-6)


def test_raw_latents_are_the_activations_of_the_bank():
    tables = raw_latents(bank(), residuals())
    acts = bank().encode(torch.from_numpy(residuals()))
    for layer, table in enumerate(tables):
        dense = np.zeros((40, 24), dtype=np.float32)
        np.put_along_axis(
            dense, acts.indices[layer].numpy(), acts.values[layer].detach().numpy(), axis=1
        )
        np.testing.assert_allclose(table.toarray(), dense, atol=1e-6)
        assert table.nnz <= 40 * 4


def test_blocks_change_no_number(monkeypatch):
    whole = observe(bank(), residuals(), 6, PLAIN)
    tables = raw_latents(bank(), residuals())
    monkeypatch.setattr(module, "BLOCK_FLOATS", 2 * 24 * 7)  # 7 samples at a time
    parts = observe(bank(), residuals(), 6, PLAIN)
    np.testing.assert_allclose(
        np.sort(parts.strengths, axis=2), np.sort(whole.strengths, axis=2), atol=1e-6
    )
    for one, other in zip(tables, raw_latents(bank(), residuals()), strict=True):
        np.testing.assert_allclose(one.toarray(), other.toarray(), atol=1e-6)


def whole_texts() -> list[np.ndarray]:
    """Three samples of 1, 4 and 4 tokens, each [layer pos d_model]."""
    rng = np.random.default_rng(2)
    return [rng.normal(size=(2, n, 8)).astype(np.float32) for n in (1, 4, 4)]


@pytest.mark.parametrize("n_obs", [3, 24])
def test_a_pooled_latent_is_as_strong_as_where_it_is_strongest(n_obs: int):
    texts, made = whole_texts(), bank()
    batches = [([2, 1], torch.from_numpy(np.stack([texts[2], texts[1]], axis=1)))]
    batches += [([0], torch.from_numpy(texts[0][:, None]))]
    found = observe_pooled(made, batches, n_obs, PLAIN)
    for row, text in enumerate(texts):
        alone = observe(made, text, made.d_sae, PLAIN)  # a row per position
        for layer in range(2):
            dense = np.zeros((text.shape[1], made.d_sae))
            for pos, latents in enumerate(alone.observations.latents[:, layer]):
                dense[pos, latents[latents >= 0]] = alone.strengths[pos, layer][latents >= 0]
            latents = found.observations.latents[row, layer]
            there = latents >= 0
            wanted = np.sort(dense.max(axis=0))[::-1][:n_obs]
            strengths = found.strengths[row, layer]
            np.testing.assert_allclose(np.sort(strengths)[::-1], wanted, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(
                dense.max(axis=0)[latents[there]], strengths[there], rtol=1e-5
            )


def test_one_position_pooled_is_that_position():
    texts, made = whole_texts()[:1], bank()
    pooled = observe_pooled(made, [([0], torch.from_numpy(texts[0][:, None]))], 6, PLAIN)
    single = observe(made, texts[0], 6, PLAIN)
    np.testing.assert_array_equal(pooled.observations.latents, single.observations.latents)
    np.testing.assert_allclose(pooled.strengths, single.strengths, rtol=1e-5)
    np.testing.assert_allclose(pooled.acts, single.acts, rtol=1e-5)
