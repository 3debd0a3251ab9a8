"""Hooks on blocks that read or change their outputs, end a pass early, or answer in their place."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ghosttrack.models.changes import Change, ChangeKind

GAMMA = 0x9E3779B97F4A7C15 - 2**64
MIX = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))
"""Step, shifts and factors of SplitMix64, as signed numbers."""


class Changed(NamedTuple):
    """A change of a batch."""

    change: Change
    marked: Bool[Tensor, "batch pos"]
    """Where it applies, if it is about positions."""
    seeds: Int[Tensor, " batch"]
    """Of each row's draws (`Change.draws_for`)."""


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


def change_of(on: Changed, layer: int, first: int) -> Callable[..., object]:
    """Make a hook that changes a block's output at random.

    Args:
        on: Noise or dropout, and whose draws.
        layer: The block's number.
        first: Position in the texts of the output's first.
    """
    kind, scale = on.change.kind, on.change.scale

    def changed(before: Tensor, after: Tensor) -> Tensor:
        if kind is ChangeKind.noise and layer != on.change.layer:
            return after
        draw = uniform(on.seeds.to(after.device), layer, first, after.shape)
        if kind is ChangeKind.noise:
            return _noisy(after, scale, on.marked.to(after.device), draw)
        assert kind is ChangeKind.dropout, on.change
        kept = (draw >= scale).to(after.dtype) / (1 - scale)
        return before + kept * (after - before)

    def hook(
        _block: nn.Module, inputs: tuple[Any, ...], output: Tensor | tuple[Any, ...]
    ) -> Tensor | tuple[Any, ...]:
        if isinstance(output, Tensor):
            return changed(inputs[0], output)
        return (changed(inputs[0], output[0]), *output[1:])

    return hook


def uniform(
    seeds: Int[Tensor, " batch"], layer: int, first: int, shape: Sequence[int]
) -> Float[Tensor, "batch pos d_model"]:
    """Draw from (0, 1) for each seed, layer, position and dimension, on any device alike.

    Neither the other rows nor how many positions are asked for at once changes a draw.

    Source: Steele, Lea and Flood 2014, SplitMix64, whose n-th number needs none before it.
    """
    _, n_pos, d_model = shape
    count = torch.arange(first * d_model, (first + n_pos) * d_model, device=seeds.device)
    bits = seeds[:, None, None] + GAMMA * ((layer << 32) + count + 1).view(n_pos, d_model)
    for shift, factor in MIX:
        bits = (bits ^ (bits >> shift & (1 << 64 - shift) - 1)) * factor
    return ((bits >> 41 & 2**23 - 1) + 0.5) / 2**23  # the greatest that fp32 tells from 1


def _noisy(
    resid: Float[Tensor, "batch pos d_model"],
    scale: float,
    marked: Bool[Tensor, "batch pos"],
    draw: Float[Tensor, "batch pos d_model"],
) -> Float[Tensor, "batch pos d_model"]:
    """Add Gaussian noise, made of uniform draws, where it is marked."""
    rms = resid.float().square().mean(-1, keepdim=True).sqrt()
    noisy = resid + (scale * rms * torch.special.ndtri(draw)).to(resid.dtype)
    return torch.where(marked[..., None], noisy, resid)
