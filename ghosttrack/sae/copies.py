"""Weights as products multiply them: in fewer bits, which the optimiser may write beside them."""

from typing import NamedTuple

import torch
from torch import Tensor


class _Copy(NamedTuple):
    values: Tensor
    at: tuple[int, int]
    """Address and version of the weight that it was written beside."""


class Copies:
    """Copies of weights in autocast's number format, that the optimiser writes.

    Each is good until its weight changes. No other is kept: torch's fused optimisers change a
    weight and leave its version, so without such a copy each use is a cast.
    """

    def __init__(self) -> None:
        self._dtype: torch.dtype | None = None
        self._kept: dict[str, _Copy] = {}

    @torch.no_grad()
    def of(self, name: str, weight: Tensor) -> Tensor:
        """Give a weight as autocast would; itself where there is none."""
        device = "cuda" if weight.is_meta else weight.device.type  # the former stands for a GPU
        if not torch.is_autocast_enabled(device):
            return weight
        self._dtype, kept = torch.get_autocast_dtype(device), self._kept.get(name)
        if kept is None or kept.values.dtype != self._dtype or kept.at != _state(weight):
            return weight.to(self._dtype)
        return kept.values

    def target(self, name: str, weight: Tensor) -> Tensor | None:
        """Give what is to be written beside a weight; None where no product asked for a copy."""
        if self._dtype is None:
            return None
        kept = self._kept.get(name)
        if kept is None or (kept.values.dtype, kept.values.device) != (self._dtype, weight.device):
            return torch.empty_like(weight, dtype=self._dtype, requires_grad=False)
        return kept.values

    def written(self, name: str, weight: Tensor, values: Tensor | None) -> None:
        """Say that a weight has changed, and that `values` are its copy."""
        torch.autograd.graph.increment_version(weight)
        if values is not None:
            self._kept[name] = _Copy(values, _state(weight))


def _state(weight: Tensor) -> tuple[int, int]:
    return weight.data_ptr(), weight._version
