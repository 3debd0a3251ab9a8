"""Rows as int8 with a scale each, and what that loses."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Float32, Int8
from torch import Tensor

SCALE = ".scale"
"""Ending of the name of the tensor that holds the scales of another's rows."""
LEVELS = 127
"""Of either sign: a row's largest value is this many times its scale."""


class Quantised(NamedTuple):
    """Rows of whole numbers; times their scale they are what was given, to half a scale."""

    values: Int8[Tensor, "*row d_model"]
    scales: Float32[Tensor, "*row"]

    def restored(self) -> Float32[Tensor, "*row d_model"]:
        """Return the rows as they will be read."""
        return self.values.float() * self.scales[..., None]


def quantise(acts: Float[Tensor, "*row d_model"]) -> Quantised:
    """Round each row to 255 levels between minus and plus its largest magnitude.

    >>> values, scales = quantise(torch.tensor([[-2.54, 0.0, 1.27]]))
    >>> values.tolist(), round(scales.item(), 4)
    ([[-127, 0, 64]], 0.02)
    """
    acts = acts.float()
    scales = acts.abs().amax(-1) / LEVELS
    values = (acts / scales.clamp_min(torch.finfo(torch.float32).tiny)[..., None]).round()
    return Quantised(values.to(torch.int8), scales)


def error_sums(
    acts: Float[Tensor, "hook row d_model"], stored: Quantised
) -> Float32[Tensor, "hook 2"]:
    """Sum squared errors, and squared distances from the mean of these rows, per hook point."""
    acts = acts.float()
    errors = (acts - stored.restored()).square().sum((1, 2))
    return torch.stack([errors, (acts - acts.mean(1, keepdim=True)).square().sum((1, 2))], dim=1)
