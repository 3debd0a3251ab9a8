"""What training asks of the other ranks."""

from typing import TypeVar

import torch
from torch import Tensor, distributed

Value = TypeVar("Value")


class Ranks:
    """The processes that share a global batch; one alone where no process group is up.

    Args:
        reduce: False if each rank trains SAEs of its own, so that nothing is to be summed.
    """

    def __init__(self, *, reduce: bool = True) -> None:
        self.reduce = reduce

    @property
    def size(self) -> int:
        """Number of processes."""
        return distributed.get_world_size() if self.reduce and distributed.is_initialized() else 1

    def total(self, tensor: Tensor) -> Tensor:
        """Sum over the ranks, in place."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        """Put the ranks' tensors of equal shape side by side along the last axis."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        distributed.all_gather(parts, tensor.contiguous())
        return torch.cat(parts, dim=-1)


def gather(value: Value) -> list[Value]:
    """Collect a small object from every rank, in their order; of one process, its own."""
    if not distributed.is_initialized():
        return [value]
    values = [value] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values
