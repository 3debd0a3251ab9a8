"""Muon against PyTorch's own."""

import torch
from torch import nn

from ghosttrack.world.recipe import Muon, orthogonalise

SHAPES = ((6, 4), (6, 4), (3, 8), (5, 5))


def test_it_takes_the_steps_of_torch_muon() -> None:
    generator = torch.Generator().manual_seed(0)
    ours = [nn.Parameter(torch.randn(*shape, generator=generator)) for shape in SHAPES]
    theirs = [nn.Parameter(param.detach().clone()) for param in ours]
    start = [param.detach().clone() for param in ours]
    optimizer = Muon(ours, lr=0.02)
    reference = torch.optim.Muon(theirs, lr=0.02, momentum=0.95, weight_decay=0.0)
    for _ in range(5):
        for param, other in zip(ours, theirs, strict=True):
            param.grad = torch.randn(param.shape, generator=generator)
            other.grad = param.grad.clone()
        optimizer.step()
        reference.step()
    for param, other, first in zip(ours, theirs, start, strict=True):
        # The reference rounds to bfloat16 (3 digits) on the way: 2 % of the path is its error.
        assert (param - other).norm() < 0.02 * (other - first).norm()


def test_singular_values_come_near_one_whatever_the_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = (
        torch.randn(2, 12, 30, generator=generator) * torch.tensor([1e-4, 1e3])[:, None, None]
    )
    for flat in (matrices, matrices.mT):
        values = torch.linalg.svdvals(orthogonalise(flat))
        assert values.min() > 0.6
        assert values.max() < 1.25


def test_a_parameter_without_a_gradient_stays() -> None:
    still, moving = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    moving.grad = torch.eye(2)
    Muon([still, moving], lr=0.1).step()
    assert torch.equal(still, torch.ones(2, 2))
    assert not torch.equal(moving, torch.ones(2, 2))
