"""Adam under the constraint that decoder rows have unit norm, with one gradient clip per SAE."""

import functools
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ghosttrack.sae import compiled, fused
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
        clip_norm: Largest gradient norm of one hook point, over its four parameters.
        with_triton: Step by row kernels of a GPU, which leave the gradients of W_enc and W_dec as
            they are.
    """

    def __init__(
        self, bank: Bank, lr: float, clip_norm: float, *, with_triton: bool = False
    ) -> None:
        self._bank = bank
        self._clip_norm, self._with_triton = clip_norm, with_triton
        self._rows = nn.Parameter(bank.W_enc.detach().mT)
        others = [p for p in bank.parameters() if p is not bank.W_enc]
        super().__init__([self._rows, *others], lr=lr, fused=True)

    def step(self, closure: Callable[[], object] | None = None) -> object:  # pyright: ignore
        """Run the closure, which computes gradients, and move."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._with_triton:
            self._step_rows()
            return loss
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
    def _step_rows(self) -> None:
        """Read each row of W_enc and W_dec twice, for the clip and to move; the rest as ever."""
        bank = self._bank
        assert bank.W_enc.grad is not None, "step() before backward()"
        assert bank.W_dec.grad is not None, "step() before backward()"
        d_enc, d_dec = bank.W_enc.grad.mT.contiguous(), bank.W_dec.grad.contiguous()
        big = (bank.W_enc, bank.W_dec)
        others = [p.grad for p in bank.parameters() if all(p is not w for w in big)]
        others = [g for g in others if g is not None]
        factor = self._factor(
            fused.square_rows(self._rows, d_enc, is_unit=False)
            + fused.square_rows(bank.W_dec, d_dec, is_unit=True)
            + _squares(others)
        )
        _scale(others, factor)
        self._move("W_enc", self._rows, d_enc, factor)
        self._move("W_dec", bank.W_dec, d_dec, factor)
        bank.W_dec.grad = None
        super().step()
        bank.W_dec.grad = d_dec

    def _move(self, name: str, rows: Tensor, gradient: Tensor, factor: Tensor) -> None:
        group, state, weight = self.param_groups[0], self.state[rows], getattr(self._bank, name)
        if not state:  # as torch's
            state["step"] = torch.zeros((), device=rows.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(rows), torch.zeros_like(rows)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        steps = state["step"].double()  # 1 - beta2 is a thousandth at first
        correction = torch.stack([1 - beta1**steps, (1 - beta2**steps).sqrt()]).float()
        move = fused.Move(group["lr"], (beta1, beta2), group["eps"], factor, correction)
        moments, is_unit = (state["exp_avg"], state["exp_avg_sq"]), rows is weight
        copy = self._bank.copies.target(name, weight)
        copied_rows = copy if copy is None or is_unit else copy.mT
        fused.adam_rows(rows, gradient, moments, move, copied_rows, is_unit=is_unit)
        self._bank.copies.written(name, weight, copy)

    @torch.no_grad()
    def _prepare(self) -> None:
        parameters = [p for p in self._bank.parameters() if p is not self._bank.W_dec]
        gradients = [p.grad for p in parameters if p.grad is not None]
        factor = self._factor(_squares(gradients) + self._project())
        if factor.device.type == "cpu" and bool((factor == 1).all()):
            return
        assert self._bank.W_dec.grad is not None
        _scale([*gradients, self._bank.W_dec.grad], factor)

    def _factor(self, squares: Float[Tensor, " hook"]) -> Float[Tensor, " hook"]:
        """By which the gradients of each hook point are clipped, whose sum of squares is given."""
        return (self._clip_norm / squares.sqrt().clamp(min=1e-12)).clamp(max=1.0)

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


def _squares(gradients: list[Tensor]) -> Float[Tensor, " hook"]:
    norms = [torch.linalg.vector_norm(g, dim=tuple(range(1, g.dim()))) for g in gradients]
    return functools.reduce(torch.add, [norm.square() for norm in norms])


def _scale(gradients: list[Tensor], factor: Float[Tensor, " hook"]) -> None:
    for g in gradients:
        g.mul_(factor.view(-1, *[1] * (g.dim() - 1)))


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
