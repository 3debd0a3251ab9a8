"""Triton's kernels against float64, run by its interpreter; on a GPU by the GPU."""

import math
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from ghosttrack.sae import fused, loss
from ghosttrack.sae.config import Architecture, KernelChoice
from ghosttrack.sae.loss import BankLoss
from ghosttrack.sae.optimiser import UnitNormAdam
from tests.sae.support import activations, small_bank
from tests.sae.test_step import config, reference

pytest.importorskip("triton", reason="triton is not installed")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FORMATS = [torch.float32, torch.bfloat16]


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def first_strongest(row: list[float], k: int) -> list[int]:
    """Of what is above 0 the k largest, of equal ones the first."""
    order = sorted(range(len(row)), key=lambda i: -math.inf if row[i] != row[i] else -row[i])
    return sorted(i for i in order[:k] if not row[i] <= 0)


@pytest.mark.parametrize(
    ("dtype", "widest"),
    [
        pytest.param(torch.bfloat16, 128, id="bf16"),
        pytest.param(torch.float32, 128, id="fp32"),
        pytest.param(torch.float32, 64, id="fp32, two tiles"),
    ],
)
def test_select_lists_the_first_of_the_strongest_and_leaves_nothing_else(
    dtype, widest, monkeypatch
):
    monkeypatch.setattr(fused, "WIDEST", widest)
    pre = drawn(2, 3, 100, dtype=dtype)
    pre[0, 0] = pre[0, 0].float().round().to(dtype)  # many are equal
    pre[0, 1, 5:] = -1.0  # fewer than k are above 0
    pre[0, 2, [3, 40]] = torch.tensor([math.nan, -math.nan], dtype=dtype, device=DEVICE)
    pre[1, 0, 50] = math.inf
    before = pre.clone()
    values, indices, fired = fused.select(pre, 7)
    expected = torch.zeros_like(pre)
    for hook, token in ((hook, token) for hook in range(2) for token in range(3)):
        row = before[hook, token]
        at = first_strongest(row.tolist(), 7)
        slots = slice(0, len(at))
        assert indices[hook, token, slots].tolist() == at
        torch.testing.assert_close(
            values[hook, token, slots], row[at], equal_nan=True, rtol=0, atol=0
        )
        assert not values[hook, token, len(at) :].any()
        expected[hook, token, at] = row[at]
    torch.testing.assert_close(pre, expected, equal_nan=True, rtol=0, atol=0)
    assert torch.equal(fired, (expected != 0).any(1))


@pytest.mark.parametrize("dtype", FORMATS)
def test_the_cut_of_a_batch_is_its_nth_largest_and_what_reaches_it_stays(dtype):
    pre = drawn(2, 20, 50, dtype=dtype)
    pre[1] -= 2  # fewer than n are above 0
    cut = fused.batch_cut(pre, 100, lambda counts: counts)
    expected = pre.double().flatten(1).sort(descending=True).values[:, 99].relu()
    assert torch.equal(cut.double(), expected)
    kept = torch.where(pre.double() >= expected[:, None, None], pre, 0.0).relu()
    acts = pre[:, :3].clone()
    fired = fused.above(acts, cut)
    assert torch.equal(acts, kept[:, :3])
    assert torch.equal(fired, (kept[:, :3] > 0).any(1))


def test_the_cut_of_a_batch_counts_the_other_ranks_entries():
    pre = drawn(1, 10, 50)
    cut = fused.batch_cut(pre, 80, lambda counts: counts.mul_(2))  # a second rank has the same
    assert cut == pre.flatten().sort(descending=True).values[39]


@pytest.mark.parametrize("dtype", FORMATS)
def test_decode_has_the_error_and_the_live_gradient_of_float64(dtype):
    latents, inputs = drawn(2, 20, 300, dtype=dtype), drawn(2, 3, 300, seed=1)
    pre = drawn(2, 3, 20, seed=2, dtype=dtype)
    pre[0, 0, 2:] = -1.0  # two slots are empty
    chosen = fused.select(pre, 5)
    gradient, squared, d_values = fused.decode(chosen, latents, inputs, 0.1)
    error = pre.double() @ latents.double() - inputs
    torch.testing.assert_close(gradient.double(), 0.1 * error, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(squared.double(), error.square().sum((1, 2)))
    d_acts = 0.1 * error @ latents.double().mT
    expected = d_acts.gather(2, chosen.indices.long()) * (chosen.values > 0)
    torch.testing.assert_close(d_values.double(), expected, rtol=1e-5, atol=1e-5)
    acts = pre.clone()
    fused.scatter(acts, chosen, d_values)
    gated = (d_acts * (pre > 0)).to(dtype)  # rounded once
    torch.testing.assert_close(
        acts, gated, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-5
    )


STEPS = [
    pytest.param(Architecture.topk, True, id="topk, rows gathered"),
    pytest.param(Architecture.topk, False, id="topk"),
    pytest.param(Architecture.batchtopk, False, id="batchtopk"),
    pytest.param(Architecture.matryoshka, False, id="matryoshka"),
    pytest.param(Architecture.jumprelu, False, id="jumprelu"),
]


@pytest.mark.parametrize(("architecture", "gathers"), STEPS)
def test_the_step_has_autograds_loss_and_gradients(architecture, gathers, monkeypatch):
    monkeypatch.setattr(loss, "GATHERED_BELOW", float(gathers))
    bank, x = small_bank(architecture=architecture).to(DEVICE), activations(4).to(DEVICE)
    step = BankLoss(2, config(architecture, kernels=KernelChoice.triton)).to(DEVICE)
    step.silent[0, 3:8] = 1000
    losses = step(bank, x.mT.contiguous().mT)  # in the store's order or another
    losses.loss.backward()
    exact = small_bank(architecture=architecture).to(DEVICE).double()
    dead = torch.zeros(2, 64, dtype=torch.bool, device=DEVICE)
    dead[0, 3:8] = True
    expected = reference(exact, x.double(), dead, 1 / 32)
    expected.backward()
    torch.testing.assert_close(losses.loss.double(), expected, rtol=1e-5, atol=1e-5)
    for (name, parameter), wide in zip(bank.named_parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(
            parameter.grad.double(),
            wide.grad,
            rtol=1e-4,
            atol=1e-5,
            msg=lambda m, n=name: f"{n}: {m}",
        )


def test_adam_moves_rows_as_float64_does_and_writes_them_in_fewer_bits_too():
    bank, exact = small_bank(d_sae=8), small_bank(d_sae=8).double()
    bank.to(DEVICE), exact.to(DEVICE)
    adams = [
        UnitNormAdam(bank, lr=0.1, clip_norm=3.0, with_triton=True),
        UnitNormAdam(exact, lr=0.1, clip_norm=3.0),
    ]
    for step in range(3):
        for p, q in zip(bank.parameters(), exact.parameters(), strict=True):
            p.grad = torch.empty_like(p).copy_(drawn(*p.shape, seed=step))
            p.grad[0] *= 0.01  # the second hook point alone is clipped
            q.grad = p.grad.double()
        for adam in adams:
            adam.step()
    for p, q in zip(bank.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(p.double(), q, rtol=1e-5, atol=1e-6)
    ours, theirs = (adam.state_dict()["state"] for adam in adams)
    for i, state in theirs.items():
        assert ours[i]["step"] == state["step"] == 3
        for moment in ("exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(
                ours[i][moment].double(), state[moment], rtol=1e-4, atol=1e-9
            )
    copy = torch.empty_like(bank.W_dec, dtype=torch.bfloat16)
    move = fused.Move(0.1, (0.9, 0.999), 1e-8, *torch.ones(2, 2, device=DEVICE))
    moments = tuple(torch.zeros_like(bank.W_dec) for _ in range(2))
    with torch.no_grad():
        fused.adam_rows(bank.W_dec, bank.W_dec.grad, moments, move, copy, is_unit=True)
    # the interpreter cuts bits off where a GPU rounds
    torch.testing.assert_close(copy.float(), bank.W_dec.detach(), rtol=2**-7, atol=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_bank_trained_by_the_kernels_is_that_of_torch(precision, monkeypatch):
    monkeypatch.setattr(loss, "GATHERED_BELOW", 1.0)
    banks = [small_bank(d_sae=8).to(DEVICE) for _ in range(2)]
    for bank, kernels in zip(banks, (KernelChoice.triton, KernelChoice.dense), strict=True):
        step = BankLoss(2, config(Architecture.topk, d_sae=8, kernels=kernels)).to(DEVICE)
        with_triton = kernels is KernelChoice.triton
        adam = UnitNormAdam(bank, lr=1e-2, clip_norm=1.0, with_triton=with_triton)
        for i in range(2):
            adam.zero_grad()
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision == "bf16"):
                value = step(bank, activations(4, seed=i).to(DEVICE)).loss
            value.backward()
            adam.step()
        written = bank.copies.target("W_enc", bank.W_enc)
        if with_triton and precision == "bf16":  # nothing is left to cast
            torch.testing.assert_close(written.float(), bank.W_enc.detach(), rtol=2**-7, atol=0)
            with torch.autocast(DEVICE.type, torch.bfloat16):
                assert bank.copies.of("W_enc", bank.W_enc) is written.fill_(7.0)
            assert (written == 7).all()
    start = small_bank(d_sae=8).to(DEVICE)
    for moved, other, before in zip(*(bank.parameters() for bank in (*banks, start)), strict=True):
        ways = [(p - before).flatten() for p in (moved, other)]
        if precision == "fp32":
            torch.testing.assert_close(*ways, rtol=1e-3, atol=1e-5)
        assert torch.cosine_similarity(*ways, dim=0) > 0.95  # bf16 keeps 8 bits


def test_every_kernel_compiles_for_a_gpu_at_the_shapes_of_a_study(tmp_path):
    """The interpreter takes what the compiler refuses."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-m", "tests.sae.compile_kernels"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        *("top_k", "decode", "scatter", "count_digits", "above", "square_rows", "adam_rows")
    ]
