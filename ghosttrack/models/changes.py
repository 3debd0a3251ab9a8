"""What an experiment does to the residual stream on its way through the blocks."""

from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class ChangeKind(Enum):
    """What is done, and where."""

    mean = "mean"
    """Marked tokens enter as the mean token embedding."""
    noise = "noise"
    """Gaussian noise at marked positions after one block, `scale` times as long as the stream."""
    dropout = "dropout"
    """Every entry of what a block adds is left out with probability `scale`, at all blocks and
    positions; what is left grows by 1 / (1 - scale)."""


class Change(NamedTuple):
    """One change; equal ones on equal batches draw equal numbers."""

    kind: ChangeKind
    layer: int = -1
    """Block after which noise is added."""
    scale: float = 0.0
    seed: int = 0
    """Of the draw."""


MASK = Change(ChangeKind.mean)


def change_of(
    change: Change,
    marked: Bool[Tensor, "batch pos"],
    generator: torch.Generator,
    *,
    is_noisy: bool,
) -> Callable[..., object]:
    """Make a hook that changes a block's output at random.

    Args:
        change: Noise or dropout.
        marked: Where noise is added; the last positions are those of the output, those before
            are known already.
        generator: Of the draws.
        is_noisy: Noise comes after this block.
    """

    def changed(before: Tensor, after: Tensor) -> Tensor:
        if change.kind is ChangeKind.noise:
            return _noisy(after, change.scale, marked, generator) if is_noisy else after
        assert change.kind is ChangeKind.dropout, change
        draw = torch.rand(after.shape, generator=generator, device=after.device)
        kept = (draw >= change.scale).to(after.dtype) / (1 - change.scale)
        return before + kept * (after - before)

    def hook(
        _block: nn.Module, inputs: tuple[Any, ...], output: Tensor | tuple[Any, ...]
    ) -> Tensor | tuple[Any, ...]:
        if isinstance(output, Tensor):
            return changed(inputs[0], output)
        return (changed(inputs[0], output[0]), *output[1:])

    return hook


def _noisy(
    resid: Float[Tensor, "batch new d_model"],
    scale: float,
    marked: Bool[Tensor, "batch pos"],
    generator: torch.Generator,
) -> Float[Tensor, "batch new d_model"]:
    shape, n_new = (*marked.shape, resid.shape[-1]), resid.shape[1]
    draw = torch.randn(shape, generator=generator, device=resid.device)[:, -n_new:]
    rms = resid.float().square().mean(-1, keepdim=True).sqrt()
    noisy = resid + (scale * rms * draw).to(resid.dtype)
    return torch.where(marked[:, -n_new:, None], noisy, resid)
