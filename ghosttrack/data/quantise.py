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


class Loss:
    """What a shard's rows lose, batch by batch; its answer does not depend on the batches.

    Args:
        n_hooks: Hook points.
        d_model: Their width.
    """

    def __init__(self, n_hooks: int, d_model: int) -> None:
        self.n_rows = 0
        self.errors = torch.zeros(n_hooks, dtype=torch.float64)
        self.squares = torch.zeros(n_hooks, dtype=torch.float64)
        self.sums = torch.zeros(n_hooks, d_model, dtype=torch.float64)

    def add(self, acts: Float[Tensor, "hook row d_model"], stored: Quantised) -> None:
        """Take some rows, as they were and as they are stored."""
        exact = acts.double()
        self.n_rows += acts.shape[1]
        self.errors += (exact - stored.restored()).square().sum((1, 2)).cpu()
        self.squares += exact.square().sum((1, 2)).cpu()
        self.sums += exact.sum(1).cpu()

    def row(self) -> Float32[Tensor, "hook width"]:
        """Give squared errors, squared distances from the shard's mean, and that mean."""
        mean = self.sums / self.n_rows
        spread = self.squares - self.n_rows * mean.square().sum(1)
        return torch.cat([self.errors[:, None], spread[:, None], mean], dim=1).float()


def variance_lost(
    shards: Float32[Tensor, "shard hook width"], n_rows: Float[Tensor, " shard"]
) -> Float[Tensor, " hook"]:
    """Put shards' `Loss.row` together: squared errors over squared distances from the mean."""
    errors, spread, means = shards.double().split([1, 1, shards.shape[2] - 2], dim=2)
    weights = n_rows.double()[:, None, None]
    mean = (weights * means).sum(0) / weights.sum()
    between = weights * (means - mean).square().sum(2, keepdim=True)
    return errors.sum((0, 2)) / (spread + between).sum((0, 2))
