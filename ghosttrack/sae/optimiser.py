"""Adam under the constraint that decoder rows have unit norm, with one gradient clip per SAE."""

from collections.abc import Callable

import torch
from torch import Tensor

from ghosttrack.sae.bank import Bank


class UnitNormAdam(torch.optim.Adam):
    """Adam on a bank; before a step gradients are projected and clipped, after it rows renormed.

    A unit vector moves along the sphere, so the part of its gradient along itself is taken out: it
    would only feed Adam's moments. Clipping is per hook point: a global norm would couple SAEs
    that have nothing to do with each other.

    Args:
        bank: Its decoder rows have unit norm.
        lr: Peak learning rate.
        clip_norm: Largest gradient norm of one hook point, over its four parameters.
    """

    def __init__(self, bank: Bank, lr: float, clip_norm: float) -> None:
        super().__init__(bank.parameters(), lr=lr, fused=True)
        self._bank = bank
        self._clip_norm = clip_norm

    def step(self, closure: Callable[[], object] | None = None) -> object:  # pyright: ignore
        """Run the closure, which computes gradients, and move."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._prepare()
        super().step()
        self._renorm()
        return loss

    @torch.no_grad()
    def _prepare(self) -> None:
        rows, gradient = self._bank.W_dec, self._bank.W_dec.grad
        assert gradient is not None, "step() before backward()"
        gradient -= (gradient * rows).sum(-1, keepdim=True) * rows
        gradients = [p.grad for p in self._bank.parameters() if p.grad is not None]
        norm = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()
        factor = (self._clip_norm / norm.clamp(min=1e-12)).clamp(max=1.0)
        for g in gradients:
            g.mul_(factor.view(-1, *[1] * (g.dim() - 1)))

    @torch.no_grad()
    def _renorm(self) -> None:
        rows: Tensor = self._bank.W_dec
        rows.div_(rows.norm(dim=-1, keepdim=True).clamp(min=1e-12))


def learning_rate_factor(
    max_steps: int, warmup_frac: float, decay_frac: float
) -> Callable[[int], float]:
    """Return the factor of step i: up from near 0, flat, and down to near 0 at the last step.

    >>> factor = learning_rate_factor(10, 0.2, 0.4)
    >>> [round(factor(i), 2) for i in range(10)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    warmup, decay = max(warmup_frac * max_steps, 1), max(decay_frac * max_steps, 1)
    return lambda step: max(0.0, min(1.0, (step + 1) / warmup, (max_steps - step) / decay))
