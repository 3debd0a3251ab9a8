import pytest
import torch

from ghosttrack.sae.loss import BankLoss
from ghosttrack.sae.optimiser import UnitNormAdam, learning_rate_factor
from tests.sae.support import activations, sae_config, small_bank


def test_decoder_rows_have_unit_norm_after_every_step():
    bank = small_bank()
    loss, adam = BankLoss(2, sae_config()), UnitNormAdam(bank, lr=1e-2, clip_norm=1.0)
    for step in range(10):
        adam.zero_grad()
        loss(bank, activations(64, seed=step)).loss.backward()
        adam.step()
        assert (bank.W_dec.norm(dim=-1) - 1).abs().max() < 1e-6


def test_what_would_stretch_a_row_is_taken_out_of_its_gradient():
    bank = small_bank()
    for p in bank.parameters():
        p.grad = torch.randn_like(p)
    UnitNormAdam(bank, lr=1e-3, clip_norm=1e9).step()
    # Adam's first moment after one step is (1 - 0.9) times the projected gradient
    state = UnitNormAdam(bank, lr=0.0, clip_norm=1e9)
    state.step()
    moment = state.state[bank.W_dec]["exp_avg"]
    assert (moment * bank.W_dec).sum(-1).abs().max() < 1e-6


def test_a_loud_hook_point_is_clipped_and_its_neighbour_is_not():
    bank = small_bank()
    for p in bank.parameters():
        p.grad = torch.zeros_like(p)
    bank.b_enc.grad[0, 0], bank.b_enc.grad[1, 0] = 300.0, 0.5
    UnitNormAdam(bank, lr=0.0, clip_norm=1.0).step()
    torch.testing.assert_close(bank.b_enc.grad[:, 0], torch.tensor([1.0, 0.5]))


def test_the_learning_rate_starts_above_zero_and_never_leaves_its_range():
    for steps in (1, 2, 7, 400):
        factor = learning_rate_factor(steps, 0.05, 0.2)
        values = [factor(i) for i in range(steps)]
        assert min(values) > 0
        assert max(values) == 1
    assert factor(400) == 0


def test_the_learning_rate_scales_as_one_over_the_root_of_the_width():
    assert sae_config(d_sae=2**14, base_lr=2e-4).lr == pytest.approx(2e-4)
    assert sae_config(d_sae=2**12, base_lr=2e-4).lr == pytest.approx(4e-4)
