from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing

from ghosttrack.sae.loss import BankLoss
from ghosttrack.sae.optimiser import UnitNormAdam
from ghosttrack.sae.sharded import ShardedAdam, part
from tests.sae.support import activations, sae_config, small_bank

OWNED = {"a hook point each": [slice(0, 1), slice(1, 2)], "none": [slice(0, 2), slice(2, 2)]}
STEPS = 8


def steps(adam: UnitNormAdam, loss: BankLoss, bank, rank: int, n_ranks: int) -> None:
    for step in range(STEPS):
        adam.zero_grad()
        loss(bank, activations(64, seed=step)[:, rank::n_ranks]).loss.backward()
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
        steps(adam, BankLoss(2, sae_config(dead_after_tokens=100)), bank, rank, 2)
        kept = [one["exp_avg"] for one in adam.state.values()]
        assert all(len(one) == len(range(2)[owned[rank]]) for one in kept)
        found[name] = [one.detach() for one in bank.parameters()]
    torch.save(found, folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.long
@pytest.mark.slow
def test_two_ranks_move_where_one_does_whoever_owns_what(tmp_path: Path):
    alone = small_bank()
    steps(
        UnitNormAdam(alone, 1e-3, 1.0), BankLoss(2, sae_config(dead_after_tokens=100)), alone, 0, 1
    )
    multiprocessing.start_processes(rank_of_two, (tmp_path,), nprocs=2, start_method="spawn")
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name in OWNED:
        for ours, theirs, whole in zip(
            *(one[name] for one in found), alone.parameters(), strict=True
        ):
            assert torch.equal(ours, theirs)
            torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-5)  # another order of sums


def test_a_part_of_a_bank_is_the_same_memory():
    bank = small_bank()
    some = part(bank, slice(1, 2))
    assert some.hooks == ["layer_3"]
    some.W_enc.data.zero_()
    assert bank.W_enc[1].abs().sum() == 0
    assert bank.W_enc[0].abs().sum() > 0
