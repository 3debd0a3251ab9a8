"""What a step asks of the other ranks that train the same SAEs."""

import torch
from torch import Tensor, distributed


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
