import torch
from torch import Tensor

from ghosttrack.sae.optimiser import UnitNormAdam
from ghosttrack.sae.products import Copies
from tests.sae.support import small_bank


def test_without_autocast_a_weight_is_its_own_copy():
    weight = torch.ones(3)
    assert Copies().of("W", weight) is weight


def test_what_the_optimiser_wrote_is_taken_until_the_weight_changes():
    copies, weight = Copies(), torch.full((3,), 2.0)

    def copied() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return copies.of("W", weight).float()

    assert torch.equal(copied(), weight)
    target = copies.target("W", weight)
    assert target is not None
    target.fill_(7.0)  # as beside a weight of 7
    copies.written("W", weight, target)
    assert torch.equal(copied(), torch.full((3,), 7.0))
    weight.add_(1.0)
    assert torch.equal(copied(), torch.full((3,), 3.0))


def test_a_step_of_torchs_adam_which_leaves_versions_alone_is_seen():
    bank = small_bank()
    adam = UnitNormAdam(bank, lr=0.1, clip_norm=1.0)
    for p in bank.parameters():
        p.grad = torch.ones_like(p)
    with torch.autocast("cpu", torch.bfloat16):
        before = bank.copies.of("W_enc", bank.W_enc).clone()
        adam.step()
        after = bank.copies.of("W_enc", bank.W_enc)
    assert torch.equal(after, bank.W_enc.bfloat16())
    assert not torch.equal(after, before)
