import pytest
import torch
from torch import Tensor

from ghosttrack.sae.bank import Bank
from ghosttrack.sae.config import KernelChoice
from ghosttrack.sae.kernels import Dense
from ghosttrack.sae.loss import TopKLoss
from ghosttrack.sae.topk import StepSettings, Weights, gradients
from tests.sae.support import activations, sae_config, small_bank


def reference(bank: Bank, x: Tensor, dead: Tensor, auxk_coef: float) -> Tensor:
    """Plain autograd, from the paper: Gao et al. 2024, section 2.3 and appendix A.2."""
    x = x * bank.scale[:, None, None]
    pre = (x - bank.b_dec[:, None]) @ bank.W_enc + bank.b_enc[:, None]
    values, indices = pre.relu().topk(bank.k, dim=-1)
    x_hat = torch.zeros_like(pre).scatter(-1, indices, values) @ bank.W_dec + bank.b_dec[:, None]
    loss = (x_hat - x).square().mean((1, 2)).sum()
    residual = (x - x_hat).detach()
    variance = (residual - residual.mean(1, keepdim=True)).square().sum((1, 2))
    for hook, latents in enumerate(dead):
        if latents.any():
            masked = pre[hook].relu() * latents
            top = masked.topk(bank.d_model // 2, dim=-1)
            acts = torch.zeros_like(masked).scatter(-1, top.indices, top.values)
            missed = (acts @ bank.W_dec[hook] - residual[hook]).square().sum()
            loss = loss + auxk_coef * missed / variance[hook]
    return loss


@pytest.mark.parametrize("kernels", [KernelChoice.dense, KernelChoice.sparse])
@pytest.mark.parametrize("n_dead", [0, 5, 30], ids=lambda n: f"{n} dead")
def test_the_step_has_autograds_loss_and_gradients(kernels, n_dead):
    bank = small_bank().double()
    x = activations(50).double()
    loss = TopKLoss(2, sae_config(kernels=kernels))
    loss.silent[0, 3 : 3 + n_dead] = 1000  # dead_after_tokens; hook 1 has none
    expected = reference(bank, x, loss.silent >= 1000, 1 / 32)
    gradients = torch.autograd.grad(expected, list(bank.parameters()))

    losses = loss(bank, x)
    losses.loss.backward()
    # float64 rounding of sums over 50 tokens
    torch.testing.assert_close(losses.loss, expected, rtol=1e-12, atol=1e-12)
    for (name, parameter), gradient in zip(bank.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(
            parameter.grad, gradient, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_dead_latents_get_an_encoder_gradient_from_auxk_alone():
    bank = small_bank().double()
    x = activations(200).double()
    with torch.no_grad():
        bank.b_enc[0, 10:20] = -0.3  # these seldom win
    gradients = []
    for coef in (0.0, 1 / 32):
        loss = TopKLoss(2, sae_config(auxk_coef=coef))
        loss.silent[0, 10:20] = 1000
        loss(bank, x).loss.backward()
        gradients.append(bank.W_enc.grad.clone())
        bank.zero_grad()
    difference = (gradients[1] - gradients[0]).norm(dim=1)
    assert (difference[0, 10:20] > 0).all()
    assert difference[0, :10].max() == 0
    assert difference[1].max() == 0


def test_silent_counts_tokens_since_a_latent_fired():
    bank, loss = small_bank(), TopKLoss(2, sae_config())
    for step in range(3):
        x = activations(100, seed=step)
        acts = bank.encode(x)
        fired = torch.zeros(2, 64, dtype=torch.bool)
        for hook in range(2):
            fired[hook, acts.indices[hook][acts.values[hook] > 0]] = True
        before = loss.silent.clone()
        loss(bank, x)
        assert torch.equal(loss.silent, torch.where(fired, 0, before + 100))


def test_a_perfect_reconstruction_gives_finite_gradients():
    bank = small_bank()
    loss = TopKLoss(2, sae_config())
    loss.silent += 1000
    centre = (bank.b_dec / bank.scale[:, None])[:, None].detach().expand(2, 8, 16)
    with torch.no_grad():
        bank.b_enc.fill_(-1.0)
    losses = loss(bank, centre)
    losses.loss.backward()
    assert losses.loss.isfinite()
    assert all(p.grad.isfinite().all() for p in bank.parameters())


@pytest.mark.parametrize("n_dead", [0, 5, 30])
def test_hook_points_together_give_what_each_gives_alone(n_dead):
    """All at once is a GPU's way: fixed shapes, dead latents masked."""
    bank, x = small_bank().double(), activations(50).double()
    weights = Weights(bank.W_enc.data, bank.b_enc.data, bank.W_dec.data, bank.b_dec.data)
    dead = torch.zeros(2, 64, dtype=torch.bool)
    dead[0, :n_dead] = True
    settings = StepSettings(4, 1 / 32, Dense(64), lambda tensor: tensor, 1)
    together = gradients(bank.standardise(x), weights, dead, settings)
    for i in range(2):
        at = slice(i, i + 1)
        alone = gradients(
            bank.standardise(x)[at], Weights(*(w[at] for w in weights)), dead[at], settings
        )
        torch.testing.assert_close(together.loss[at], alone.loss, rtol=1e-12, atol=1e-12)
        for whole, part in zip(together.gradients, alone.gradients, strict=True):
            torch.testing.assert_close(whole[at], part, rtol=1e-10, atol=1e-12)


def test_bf16_autocast_keeps_fp32_weights_and_roughly_the_gradients():
    bank, x = small_bank(), activations(200)
    loss = TopKLoss(2, sae_config(kernels=KernelChoice.dense))
    loss(bank, x).loss.backward()
    expected = bank.W_dec.grad.clone()
    bank.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        losses = loss(bank, x)
    losses.loss.backward()
    assert losses.loss.dtype == bank.W_dec.grad.dtype == torch.float32
    # bf16 keeps 8 bits; a latent near the k-th place may change
    assert torch.cosine_similarity(bank.W_dec.grad.flatten(), expected.flatten(), dim=0) > 0.98
