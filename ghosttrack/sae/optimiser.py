"""Adam under the constraint that decoder rows have unit norm, with one gradient clip per SAE."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ghosttrack.sae import compiled
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.compiled import is_compiled


class UnitNormAdam(torch.optim.Adam):
    """Adam on a bank; before a step gradients are projected and clipped, after it rows renormed.

    A unit vector moves along the sphere, so the part of its gradient along itself is taken out: it
    would only feed Adam's moments. Clipping is per hook point: a global norm would couple SAEs
    that have nothing to do with each other.

    W_enc takes part as a contiguous view of the same numbers, latents first: fused Adam would copy
    it, its gradient and its moments at every step.

    Args:
        bank: Its decoder rows have unit norm.
        lr: Peak learning rate.
        clip_norm: Largest gradient norm of one hook point, over its four parameters.
    """

    def __init__(self, bank: Bank, lr: float, clip_norm: float) -> None:
        self._bank = bank
        self._clip_norm = clip_norm
        self._rows = nn.Parameter(bank.W_enc.detach().mT)
        others = [p for p in bank.parameters() if p is not bank.W_enc]
        super().__init__([self._rows, *others], lr=lr, fused=True)

    def step(self, closure: Callable[[], object] | None = None) -> object:  # pyright: ignore
        """Run the closure, which computes gradients, and move."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._prepare()
        assert self._bank.W_enc.grad is not None
        self._rows.grad = self._bank.W_enc.grad.mT
        super().step()
        self._rows.grad = None
        self._renorm()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of the bank."""
        super().zero_grad(set_to_none)
        self._bank.zero_grad(set_to_none)

    @torch.no_grad()
    def _prepare(self) -> None:
        parameters = [p for p in self._bank.parameters() if p is not self._bank.W_dec]
        gradients = [p.grad for p in parameters if p.grad is not None]
        squares = [
            torch.linalg.vector_norm(g, dim=tuple(range(1, g.dim()))).square() for g in gradients
        ]
        norm = (sum(squares) + self._project()).sqrt()
        factor = (self._clip_norm / norm.clamp(min=1e-12)).clamp(max=1.0)
        if factor.device.type == "cpu" and bool((factor == 1).all()):
            return
        assert self._bank.W_dec.grad is not None
        for g in (*gradients, self._bank.W_dec.grad):
            g.mul_(factor.view(-1, *[1] * (g.dim() - 1)))

    def _project(self) -> Float[Tensor, " hook"]:
        """Make W_dec's gradient a tangent; return the sum of its squares."""
        rows, gradient = self._bank.W_dec, self._bank.W_dec.grad
        assert gradient is not None, "step() before backward()"
        if is_compiled(rows):
            return torch.stack(
                [compiled.project(*pair) for pair in zip(rows, gradient, strict=True)]
            )
        gradient.addcmul_(torch.linalg.vecdot(gradient, rows)[..., None], rows, value=-1)
        return torch.linalg.vector_norm(gradient, dim=(1, 2)).square()

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
