"""Hooks on blocks that read or change their outputs, end a pass early, or answer in their place."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ghosttrack.models.changes import Change, ChangeKind


class DeepestBlockReachedError(Exception):
    """Ends a forward pass whose remaining blocks nobody asked for."""


def keep(found: dict[int, Tensor], layer: int, is_last: bool) -> Callable[..., None]:
    """Make a hook that keeps a block's output; after the last one the pass ends."""

    def hook(_block: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        found[layer] = output if isinstance(output, Tensor) else output[0]
        if is_last:
            raise DeepestBlockReachedError

    return hook


@contextmanager
def hooked(hooks: Mapping[nn.Module, Callable[..., object]]) -> Iterator[None]:
    """Let blocks' outputs be read, or replaced before anything reads them."""
    handles = [block.register_forward_hook(hook) for block, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def answering(blocks: Iterable[nn.Module], answer: Tensor | tuple[Tensor]) -> Iterator[None]:
    """Let blocks give an answer without work."""
    blocks = list(blocks)
    for block in blocks:
        block.forward = lambda *_, **__: answer
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


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
