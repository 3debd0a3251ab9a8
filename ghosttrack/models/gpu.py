"""What a GPU is spared: products of wide numbers, and waiting for the host."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ghosttrack.models.config import Products


@contextmanager
def multiplying(products: Products, device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Let a model multiply so on a GPU, and leave the GPU's settings as they were.

    A CPU has no such units, and a model whose weights are narrower than fp32 is multiplied in its
    own format: for both this does nothing.
    """
    is_meant = device.type == "cuda" and dtype is torch.float32
    if is_meant and products is Products.bf16:
        with torch.autocast("cuda", torch.bfloat16):
            yield
        return
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = before or (is_meant and products is Products.tf32)
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a host's tensor to a device; no GPU is waited for."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
