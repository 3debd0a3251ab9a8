from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing

from ghosttrack.sae.config import KernelChoice
from ghosttrack.sae.loss import BankLoss
from ghosttrack.sae.optimiser import UnitNormAdam
from ghosttrack.sae.sharded import ShardedAdam, part
from tests.sae.support import activations, sae_config, small_bank

OWNED = {"a hook point each": [slice(0, 1), slice(1, 2)], "none": [slice(0, 2), slice(2, 2)]}
STEPS = 8


def steps(adam: UnitNormAdam, bank, rank: int = 0, n_ranks: int = 1, *, bf16=False) -> None:
    kernels = KernelChoice.dense if bf16 else KernelChoice.auto
    loss = BankLoss(2, sae_config(dead_after_tokens=100, kernels=kernels))
    for step in range(STEPS):
        adam.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            losses = loss(bank, activations(64, seed=step)[:, rank::n_ranks])
        losses.loss.backward()
        adam.step()


def rank_of_two(rank: int, folder: Path) -> None:
    address = f"file://{folder}/rendezvous"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    found: dict[str, list[Tensor]] = {}
    for name, owned in OWNED.items():
        bank = small_bank()
        if rank == 1:
            bank.W_dec.data.mul_(2.0)  # what a rank does not own is not heard
            bank.W_dec.data[owned[1]] /= 2.0
        adam = ShardedAdam(bank, 1e-3, 1.0, owned, rank)
        steps(adam, bank, rank, 2)
        kept = [one["exp_avg"] for one in adam.state.values()]
        assert all(len(one) == len(range(2)[owned[rank]]) for one in kept)
        found[name] = [one.detach() for one in bank.parameters()]
    found |= in_bf16(rank)
    torch.save(found, folder / f"{rank}.pt")
    distributed.destroy_process_group()


def in_bf16(rank: int) -> dict[str, list[Tensor]]:
    bank = small_bank()
    adam = ShardedAdam(bank, 1e-3, 1.0, OWNED["a hook point each"], rank)
    steps(adam, bank, rank, 2, bf16=True)
    with torch.autocast("cpu", torch.bfloat16):
        sent = [bank.copies.of(name, getattr(bank, name)) for name in ("W_enc", "W_dec")]
    old = bank.W_dec.detach().clone()
    adam.share()
    found = [one.detach() for one in bank.parameters()]
    return {"sent": sent, "old": [old], "bf16": found}


@pytest.mark.long
@pytest.mark.slow
def test_two_ranks_move_where_one_does_whoever_owns_what(tmp_path: Path):
    alone = small_bank()
    steps(UnitNormAdam(alone, 1e-3, 1.0), alone)
    multiprocessing.start_processes(rank_of_two, (tmp_path,), nprocs=2, start_method="spawn")
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name in OWNED:
        for ours, theirs, whole in zip(
            *(one[name] for one in found), alone.parameters(), strict=True
        ):
            assert torch.equal(ours, theirs)
            torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-5)  # another order of sums
    rounded = small_bank()
    steps(UnitNormAdam(rounded, 1e-3, 1.0), rounded, bf16=True)
    for rank, one in enumerate(found):
        for ours, theirs, whole in zip(
            one["bf16"], found[0]["bf16"], rounded.parameters(), strict=True
        ):
            assert torch.equal(ours, theirs)
            torch.testing.assert_close(ours, whole, rtol=1e-2, atol=1e-3)
        weights = rounded.named_parameters()
        names = [name for name, _ in weights]
        for name, sent in zip(("W_enc", "W_dec"), one["sent"], strict=True):
            assert torch.equal(sent, one["bf16"][names.index(name)].bfloat16())
        (old,) = one["old"]  # what others moved is known in bf16 alone, until it is shared
        whole = one["bf16"][names.index("W_dec")]
        assert torch.equal(old[rank], whole[rank])
        assert not torch.equal(old[1 - rank], whole[1 - rank])


def test_a_part_of_a_bank_is_the_same_memory():
    bank = small_bank()
    some = part(bank, slice(1, 2))
    assert some.hooks == ["layer_3"]
    some.W_enc.data.zero_()
    assert bank.W_enc[1].abs().sum() == 0
    assert bank.W_enc[0].abs().sum() > 0
