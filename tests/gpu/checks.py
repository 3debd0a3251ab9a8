"""What has to be right on a device before its numbers mean anything."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import distributed

from ghosttrack.errors import ConfigError
from ghosttrack.sae.architectures import Ranks
from ghosttrack.sae.bank import initialise
from ghosttrack.sae.config import Architecture, KernelChoice
from ghosttrack.sae.lit import LitBank
from ghosttrack.sae.loss import BankLoss
from ghosttrack.sae.optimiser import UnitNormAdam
from ghosttrack.sae.products import choose
from ghosttrack.sae.sharded import ShardedAdam
from ghosttrack.training import resume
from ghosttrack.training.resume import BankCheckpoints, ResumePoints
from tests.sae.support import Batches, activations, sae_config, small_bank
from tests.sae.test_lit import Stop, Stopped
from tests.sae.test_step import config as step_config
from tests.sae.test_step import reference

STEPS = 40


def paths(device: torch.device) -> list[tuple[Architecture, KernelChoice]]:
    """Every architecture by every path that the device can go."""
    found = []
    for architecture in Architecture:
        for kernels in KernelChoice:
            if kernels is KernelChoice.auto:
                continue  # one of the others
            if kernels is KernelChoice.triton and device.type == "cpu":
                continue  # by an interpreter, in tests of their own
            try:
                choose(step_config(architecture, kernels=kernels), device)
            except ConfigError:
                continue
            found.append((architecture, kernels))
    return found


def steps_agree_with_float64(device: torch.device) -> dict[str, float]:
    """Hold loss and gradients of every path against plain autograd in float64 on the host.

    Returns:
        The largest deviation of a gradient, over its largest element: below 1e-9 in float64 and
        1e-4 in fp32.
    """
    found = {}
    x = activations(50).double()
    for architecture, kernels in paths(device):
        bank, dead = small_bank(architecture=architecture).double(), torch.zeros(2, 64).bool()
        dead[0, 3:33] = True
        expected = torch.autograd.grad(reference(bank, x, dead, 1 / 32), list(bank.parameters()))
        for dtype, most in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
            if kernels is KernelChoice.triton and dtype is torch.float64:
                continue  # its kernels accumulate in fp32
            ours = small_bank(architecture=architecture).to(device, dtype)
            loss = BankLoss(2, step_config(architecture, kernels=kernels)).to(device)
            loss.together = True
            loss.silent[0, 3:33] = 1000
            loss(ours, x.to(device, dtype)).loss.backward()
            worst = max(
                float((a.grad.double().cpu() - b).abs().max() / b.abs().max())
                for a, b in zip(ours.parameters(), expected, strict=True)
            )
            name = f"{architecture.name} {kernels.name} {str(dtype).removeprefix('torch.')}"
            assert worst < most, f"{name}: {worst}"
            found[name] = worst
    return found


def kernels_agree_with_float64(device: torch.device) -> str:
    """Run the tests of Triton's kernels; of a CPU, that has but the interpreter, the suite does."""
    if device.type == "cpu":
        return "left to the suite"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "tests/sae/test_fused.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout.splitlines()[-1]


def bf16_keeps_the_gradients_direction(device: torch.device) -> float:
    """Return the least cosine of a gradient in bf16 to that in fp32: above 0.98."""
    found = []
    for architecture in (Architecture.topk, Architecture.batchtopk):
        gradients = []
        for is_on in (False, True):
            bank = small_bank(architecture=architecture).to(device)
            loss = BankLoss(2, step_config(architecture, kernels=KernelChoice.dense)).to(device)
            loss.together = True
            with torch.autocast(device.type, torch.bfloat16, enabled=is_on):
                losses = loss(bank, activations(200).to(device))
            losses.loss.backward()
            gradients.append(torch.cat([p.grad.flatten().float() for p in bank.parameters()]))
        found.append(float(torch.cosine_similarity(*gradients, dim=0)))
    assert min(found) > 0.98, found
    return min(found)


def one_rank_moves_as_none_does(device: torch.device, folder: Path) -> float:
    """Hold the sharded optimiser of a single rank against the plain one: nothing is summed."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    address = f"file://{folder}/rendezvous"
    distributed.init_process_group(backend, init_method=address, rank=0, world_size=1)
    try:
        banks = [small_bank().to(device) for _ in range(2)]
        losses = [BankLoss(2, sae_config()).to(device) for _ in banks]
        assert losses[0].ranks.size == Ranks().size == 1
        adams = [
            UnitNormAdam(banks[0], 1e-3, 1.0),
            ShardedAdam(banks[1], 1e-3, 1.0, [slice(0, 2)], 0),
        ]
        for step in range(5):
            x = activations(128, seed=step).to(device)
            for bank, loss, adam in zip(banks, losses, adams, strict=True):
                adam.zero_grad()
                loss(bank, x).loss.backward()
                adam.step()
    finally:
        distributed.destroy_process_group()
    pairs = zip(*(bank.parameters() for bank in banks), strict=True)
    worst = max(float((a - b).detach().abs().max()) for a, b in pairs)
    assert worst < 1e-6, worst
    return worst


def _train(device: torch.device, folder: Path, stop: int | None = None) -> LitBank:
    points = ResumePoints(folder, 10)
    trainer = pl.Trainer(
        **{"accelerator": device.type, "devices": 1, "max_steps": STEPS, "min_steps": 1},
        **{"logger": False, "enable_progress_bar": False, "enable_model_summary": False},
        callbacks=[points, *([] if stop is None else [Stop(stop)])],
        use_distributed_sampler=False,
        log_every_n_steps=4,
    )
    bank = small_bank().to(device)
    initialise(bank, activations(512).to(device))
    lit = LitBank(bank, sae_config(dead_after_tokens=300), STEPS)
    lit.loss.together = True
    checkpoints = BankCheckpoints(bank.hooks)
    trainer.strategy.checkpoint_io = checkpoints
    last = folder / resume.LAST
    loader = Batches(activations(4000), 128, STEPS)
    trainer.fit(lit, loader, ckpt_path=last if last.exists() else None)
    checkpoints.finish()
    return lit


def a_resumed_run_ends_as_one_that_was_not(device: torch.device, folder: Path) -> float:
    """Stop between two counts of dead latents and go on: the same weights, counts and log."""
    whole = _train(device, folder / "whole")
    with suppress(Stopped):
        _train(device, folder / "parts", stop=23)
    assert (folder / "parts" / resume.LAST).resolve().name == "step-20-of-1"
    resumed = _train(device, folder / "parts")
    for name, tensor in whole.state_dict().items():
        other = resumed.state_dict()[name]
        # a GPU sums in any order where it adds atomically
        torch.testing.assert_close(other, tensor, rtol=1e-4, atol=1e-5, msg=name)
    assert whole.latest.keys() == resumed.latest.keys() != set()
    pairs = zip(whole.bank.parameters(), resumed.bank.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)
