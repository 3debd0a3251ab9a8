import pytest
import torch
from torch import Tensor

from ghosttrack.sae.bank import Bank
from ghosttrack.sae.config import Architecture, KernelChoice
from ghosttrack.sae.loss import BankLoss, StepSettings, gradients
from ghosttrack.sae.optimiser import UnitNormAdam
from ghosttrack.sae.products import Weights
from tests.sae.support import activations, sae_config, small_bank

PREFIXES = [0.125, 0.5, 1.0]
JUMPRELU = {"bandwidth": 0.5, "l0_coef": 0.7}
PATHS = [
    pytest.param(Architecture[architecture], KernelChoice[kernels], id=f"{architecture}-{kernels}")
    for architecture, kernels in (
        *(("topk", kernels) for kernels in ("dense", "sparse", "compiled")),
        *(("batchtopk", kernels) for kernels in ("dense", "sparse", "compiled")),
        ("jumprelu", "dense"),
        ("matryoshka", "dense"),
    )
]


def config(architecture: Architecture, **changes):
    if architecture is Architecture.jumprelu:
        changes |= JUMPRELU
    if architecture is Architecture.matryoshka:
        changes["prefixes"] = PREFIXES
    return sae_config(architecture=architecture, **changes)


class Step(torch.autograd.Function):
    """Heaviside's step with the estimate of Rajamanoharan et al. 2024, equation 8."""

    @staticmethod
    def forward(ctx, z, threshold):
        ctx.save_for_backward(z, threshold)
        return (z > threshold).to(z)

    @staticmethod
    def backward(ctx, d):
        z, threshold = ctx.saved_tensors
        near = ((z - threshold).abs() < JUMPRELU["bandwidth"] / 2).to(z)
        return None, (-near / JUMPRELU["bandwidth"] * d).sum(0)


def jumprelu(z: Tensor, threshold: Tensor) -> Tensor:
    """z H(z - threshold), whose own estimate (equation 7) is threshold times the step's."""
    live = (z > threshold).to(z)
    return z * live.detach() + threshold.detach() * (Step.apply(z, threshold) - live).to(z)


def reference(bank: Bank, x: Tensor, dead: Tensor, auxk_coef: float) -> Tensor:
    """Plain autograd, from the papers; AuxK is Gao et al. 2024, appendix A.2."""
    x, loss, n = x * bank.scale[:, None, None], torch.zeros((), dtype=x.dtype), x.shape[1]
    for hook, latents in enumerate(dead):
        centred = x[hook] - bank.b_dec[hook]
        pre = centred @ bank.W_enc[hook] + bank.b_enc[hook]
        if bank.architecture is Architecture.topk:
            values, indices = pre.relu().topk(bank.k, dim=-1)
            acts = torch.zeros_like(pre).scatter(-1, indices, values)
        elif bank.architecture is Architecture.jumprelu:
            threshold = bank.log_threshold[hook].exp()
            acts = jumprelu(pre, threshold)
            l0 = Step.apply(pre, threshold).sum() / n
            loss = loss + JUMPRELU["l0_coef"] * (l0 / bank.k - 1) ** 2
        else:
            least = pre.flatten().topk(bank.k * n).values[-1]
            acts = torch.where(pre >= least, pre, 0.0).relu()
        shares = PREFIXES if bank.architecture is Architecture.matryoshka else [1.0]
        for share in shares:
            cut = round(share * bank.d_sae)
            x_hat = acts[:, :cut] @ bank.W_dec[hook, :cut] + bank.b_dec[hook]
            loss = loss + (x_hat - x[hook]).square().mean() / len(shares)
        residual = (x[hook] - x_hat).detach()
        variance = (residual - residual.mean(0)).square().sum()
        if latents.any():
            never = (pre <= 0).all(0)
            strength = torch.where(never, pre, pre.relu())
            top = strength.masked_fill(~latents, -torch.inf).topk(bank.d_model // 2, dim=-1)
            kept = torch.zeros_like(pre).scatter(-1, top.indices, 1.0) * latents
            acts = strength * kept
            missed = (acts @ bank.W_dec[hook] - residual).square().sum()
            loss = loss + auxk_coef * missed / variance
    return loss


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "together"])
@pytest.mark.parametrize(("architecture", "kernels"), PATHS)
@pytest.mark.parametrize("n_dead", [0, 5, 30], ids=lambda n: f"{n} dead")
def test_the_step_has_autograds_loss_and_gradients(architecture, kernels, n_dead, together):
    bank = small_bank(architecture=architecture).double()
    x = activations(50).double()
    loss = BankLoss(2, config(architecture, kernels=kernels))
    loss.together = together
    loss.silent[0, 3 : 3 + n_dead] = 1000  # dead_after_tokens; hook 1 has none
    with torch.no_grad():
        bank.b_enc[0, 4:7] = -9.0  # below 0 on every token
    expected = reference(bank, x, loss.silent >= 1000, 1 / 32)
    gradients = torch.autograd.grad(expected, list(bank.parameters()))

    losses = loss(bank, x)
    losses.loss.backward()
    # float64 rounding of sums over 50 tokens
    torch.testing.assert_close(losses.loss, expected, rtol=1e-12, atol=1e-12)
    for (name, parameter), gradient in zip(bank.named_parameters(), gradients, strict=True):
        assert parameter.grad.abs().max() > 0
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
        loss = BankLoss(2, sae_config(auxk_coef=coef))
        loss.silent[0, 10:20] = 1000
        loss(bank, x).loss.backward()
        gradients.append(bank.W_enc.grad.clone())
        bank.zero_grad()
    difference = (gradients[1] - gradients[0]).norm(dim=1)
    assert (difference[0, 10:20] > 0).all()
    assert difference[0, :10].max() == 0
    assert difference[1].max() == 0


def test_silent_counts_tokens_since_a_latent_fired():
    bank, loss = small_bank(), BankLoss(2, sae_config())
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
    loss = BankLoss(2, sae_config())
    loss.silent += 1000
    centre = (bank.b_dec / bank.scale[:, None])[:, None].detach().expand(2, 8, 16)
    with torch.no_grad():
        bank.b_enc.fill_(-1.0)
    losses = loss(bank, centre)
    losses.loss.backward()
    assert losses.loss.isfinite()
    assert all(p.grad.isfinite().all() for p in bank.parameters())


@pytest.mark.parametrize("architecture", list(Architecture))
@pytest.mark.parametrize("n_dead", [0, 5, 30])
def test_hook_points_together_give_what_each_gives_alone(architecture, n_dead):
    """All at once is a GPU's way: fixed shapes, dead latents masked."""
    bank, x = small_bank(architecture=architecture).double(), activations(50).double()
    weights = Weights(*(None if w is None else w.data for w in bank.weights))
    dead = torch.zeros(2, 64, dtype=torch.bool)
    dead[0, :n_dead] = True
    loss = BankLoss(2, config(architecture))
    of = StepSettings(
        loss.rule, loss.sizes, KernelChoice.dense, 1 / 32, [n_dead, 0], loss.ranks, bank.copies
    )
    inputs = bank.standardise(x) - bank.b_dec.data[:, None]
    together = gradients(inputs, weights, dead, of)
    for i in range(2):
        at = slice(i, i + 1)
        some = Weights(*(None if w is None else w[at] for w in weights))
        alone = gradients(inputs[at], some, dead[at], of._replace(n_dead=of.n_dead[at]))
        torch.testing.assert_close(together.loss[at], alone.loss, rtol=1e-12, atol=1e-12)
        for whole, part in zip(together.gradients, alone.gradients, strict=True):
            if whole is not None:
                torch.testing.assert_close(whole[at], part, rtol=1e-10, atol=1e-12)


def test_a_gpus_way_counts_the_dead_every_16_steps_and_goes_on_with_that_count():
    def run(loss: BankLoss, bank: Bank, steps: range) -> None:
        for step in steps:
            loss.silent[:, :9] = 1000 if step >= 3 else 0  # they die after a count
            bank.zero_grad()
            loss(bank, activations(64, seed=step)).loss.backward()

    whole, parted, resumed = (BankLoss(2, sae_config()) for _ in range(3))
    for loss in (whole, parted, resumed):
        loss.together = True
    banks = [small_bank() for _ in range(3)]
    for bank in banks:
        bank.b_enc.data[:, :9] = -20.0
    run(whole, banks[0], range(16))
    run(parted, banks[1], range(10))
    resumed.load_state_dict(parted.state_dict())
    run(resumed, banks[2], range(10, 16))
    assert banks[0].W_enc.grad[0, :, :9].abs().sum() == 0  # not counted yet
    assert torch.equal(banks[0].W_enc.grad, banks[2].W_enc.grad)
    for loss, bank in ((whole, banks[0]), (resumed, banks[2])):
        run(loss, bank, range(16, 17))
        assert bank.W_enc.grad[0, :, :9].abs().sum() > 0
    assert torch.equal(banks[0].W_enc.grad, banks[2].W_enc.grad)


@pytest.mark.parametrize("kernels", [KernelChoice.dense, KernelChoice.sparse])
def test_bf16_autocast_keeps_fp32_weights_and_roughly_the_gradients(kernels):
    bank, x = small_bank(), activations(200)
    loss = BankLoss(2, sae_config(kernels=kernels))
    loss(bank, x).loss.backward()
    expected = bank.W_dec.grad.clone()
    bank.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        losses = loss(bank, x)
    losses.loss.backward()
    assert losses.loss.dtype == bank.W_dec.grad.dtype == torch.float32
    # bf16 keeps 8 bits; a latent near the k-th place may change
    assert torch.cosine_similarity(bank.W_dec.grad.flatten(), expected.flatten(), dim=0) > 0.98


def revived(auxk_coef: float) -> float:
    """Share of latents that stay silent when half of a bank starts far below 0."""
    torch.manual_seed(0)
    bank, x = small_bank(), activations(20_000, seed=1)
    with torch.no_grad():
        bank.b_enc[:, :32] = -20.0
    settings = sae_config(auxk_coef=auxk_coef, base_lr=5e-4, dead_after_tokens=4096)
    loss, adam = BankLoss(2, settings), UnitNormAdam(bank, settings.lr, 1.0)
    for _ in range(400):
        adam.zero_grad()
        loss(bank, x[:, torch.randint(20_000, (512,))]).loss.backward()
        adam.step()
    values, indices = bank.encode(activations(20_000, seed=2))
    fired = torch.zeros(2, 64).scatter_add_(1, indices.flatten(1), values.flatten(1).sign())
    return float((fired == 0).double().mean())


def test_auxk_brings_dead_latents_back_within_2e5_tokens_and_nothing_else_does():
    assert revived(0.0) > 0.4
    assert revived(1 / 32) < 0.1
