from dataclasses import replace

import numpy as np
import pytest
import torch

from ghosttrack.detector.tracks.causal import COLUMNS, Reader, causal_links, passages
from ghosttrack.detector.tracks.observe import fit_standard, observe
from ghosttrack.models.lm import LM
from ghosttrack.sae.bank import Bank
from ghosttrack.tracking.observations import TrackerSettings
from ghosttrack.tracking.tracker import Tracker, fit_tracker

TOP_K, D_SAE = 128, 256
SETTINGS = TrackerSettings(0.9, 0, 2, "identity", 1, frozenset())


@pytest.fixture(scope="module")
def reader(lm: LM) -> Reader:
    """Reads what it writes, in the same random directions at two blocks, and follows the index."""
    bank = Bank(["layer_0", "layer_2"], lm.d_model, D_SAE, TOP_K)
    rows = torch.randn(D_SAE, lm.d_model, generator=torch.Generator().manual_seed(0))
    rows /= rows.norm(dim=1, keepdim=True)
    bank.W_dec.data = rows.expand(2, -1, -1).clone()
    bank.W_enc.data = rows.T.expand(2, -1, -1).clone()
    bank.scale.copy_(torch.tensor([0.5, 3.0]))
    bank.requires_grad_(False)
    text = windows(lm, 300, 1)
    residuals = lm.residuals(text.ids, text.mask, [0, 2])[:, :, -1].numpy()
    standard = fit_standard(bank, residuals, TOP_K)
    observations = observe(bank, residuals, TOP_K, standard).observations
    tracker = fit_tracker(tuple(bank.directions.numpy()), observations, SETTINGS)
    return Reader(lm, [0, 2], bank, standard, TOP_K, tracker)


class LinearLM:
    """One block, which adds a linear function of the stream."""

    d_model, d_vocab = 64, 500

    def __init__(self, strength: float) -> None:
        generator = torch.Generator().manual_seed(5)
        self.embed = torch.randn(self.d_vocab, self.d_model, generator=generator)
        noise = torch.randn(self.d_model, self.d_model, generator=generator)
        self.block = torch.eye(self.d_model) + strength * noise / self.d_model**0.5

    def residuals(self, ids, _mask, _layers):
        return torch.stack([self.embed[ids], self.embed[ids] @ self.block])

    def resume(self, resid, _mask, _layer, _until):
        return resid @ self.block


def linear_reader(strength: float) -> Reader:
    """Deeper latents read, and are told by, what the block makes of the upper ones."""
    lm = LinearLM(strength)
    bank = Bank(["layer_0", "layer_1"], lm.d_model, D_SAE, TOP_K)
    rows = torch.randn(D_SAE, lm.d_model, generator=torch.Generator().manual_seed(0))
    rows = torch.stack([rows, rows @ lm.block])
    bank.W_dec.data = rows / rows.norm(dim=2, keepdim=True)
    bank.W_enc.data = bank.W_dec.data.mT.clone()
    bank.requires_grad_(False)
    text = windows(lm, 300, 1)
    residuals = lm.residuals(text.ids, None, None)[:, :, -1].numpy()
    standard = fit_standard(bank, residuals, TOP_K)
    observations = observe(bank, residuals, TOP_K, standard).observations
    settings = SETTINGS._replace(gate=0.5)
    tracker = fit_tracker(tuple(bank.directions.numpy()), observations, settings)
    return Reader(lm, [0, 1], bank, standard, TOP_K, tracker)


def windows(lm: LM, number: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, lm.d_vocab, (number, 9), generator=generator)
    lengths = np.random.default_rng(seed).integers(2, 10, number)
    return passages(ids, lengths, 2, seed)


def test_a_position_is_drawn_from_every_window_that_is_long_enough():
    ids = torch.arange(40).reshape(4, 10)
    text = passages(ids, np.array([3, 2, 10, 1]), 2, 0)
    assert text.ids[:, 0].tolist() == [0, 20]  # the second and the fourth have no third token
    assert text.lengths[0] == 3
    assert 3 <= text.lengths[1] <= 10
    assert text.mask.sum(1).tolist() == text.lengths.tolist()


@pytest.mark.parametrize(("strength", "least", "most"), [(0.0, 0.0, 0.0), (0.6, 0.9, 1.0)])
def test_links_pass_by_what_a_block_does_and_not_by_what_the_stream_carries(
    strength: float, least: float, most: float
):
    """A block turns every direction, the deeper latents read what it makes of the upper ones."""
    reader = linear_reader(strength)
    found = causal_links(reader, windows(reader.lm, 200, 2), 0)
    assert found.names == COLUMNS
    assert len(found) == len(np.unique(found.column("window"))) > 100
    assert found.column("carried").mean() > 0.5
    assert found.column("drop").mean() >= found.column("carried").mean()
    assert least <= found.column("passes").mean() <= most
    assert np.nanmean(found.column("by_chance")) < 0.12  # 5 %, and three standard errors


def test_links_that_mean_nothing_pass_as_often_as_pairs_that_no_link_joins(reader: Reader):
    graph = reader.tracker.graph
    order = np.random.default_rng(0).permutation(graph.d_sae).astype(np.int32)
    graph = replace(graph, latents=order[None, :, None])
    mixed = reader._replace(tracker=Tracker(graph, SETTINGS))
    tables = [causal_links(mixed, windows(reader.lm, 300, 3 + n), n) for n in (0, 1)]
    passes, by_chance = (
        np.concatenate([table.column(name) for table in tables]) for name in ("passes", "by_chance")
    )
    # 5 % of about 500: two standard errors are .02
    assert len(passes) > 400
    assert passes.mean() < 0.09
    assert abs(passes.mean() - np.nanmean(by_chance)) < 0.04


def test_what_is_taken_away_is_what_the_source_writes(reader: Reader):
    # with no block between, the drop is the whole of it: block 2 itself stands at both ends
    lm = reader.lm
    same = reader._replace(layers=[2, 2])
    text = windows(lm, 100, 4)
    found = causal_links(same, text, 0)
    np.testing.assert_allclose(found.column("drop"), 1, atol=1e-5)
    np.testing.assert_allclose(found.column("carried"), 1, atol=1e-5)
    assert not found.column("passes").any()


def test_no_text_has_no_links(reader: Reader):
    text = passages(torch.zeros(3, 9, dtype=torch.long), np.array([2, 1, 2]), 2, 0)
    assert len(causal_links(reader, text, 0)) == 0
