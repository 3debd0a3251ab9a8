"""Row kernels of a step on a GPU: torch tensors in and out, of all hook points at once.

`ghosttrack.sae.triton_kernels` says what each reads and writes. Triton is imported where a kernel
runs, and nowhere else; with `TRITON_INTERPRET=1` they run on a CPU, slowly, as the tests do.
"""

import functools
import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int32
from torch import Tensor

AVAILABLE = importlib.util.find_spec("triton") is not None
WIDEST = 2**13
"""Entries of a row that a program holds in registers; of a wider row it takes so many at a time."""
SHARE = 16
"""Tiles of a hook point's entries that one program counts."""
DROPPED_BITS = {torch.float32: 0, torch.float16: 13, torch.bfloat16: 16}
"""Trailing bits of an fp32 number that the format does not have."""


def runs_on(device: torch.device) -> bool:
    """Tell whether there is Triton, and whether its kernels run on the device."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        return AVAILABLE
    return AVAILABLE and device.type == "cuda" and can_launch()


@functools.cache
def can_launch() -> bool:
    """Tell whether there are a C compiler and Python's headers: Triton builds its launcher."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    scheme = sysconfig.get_default_scheme().replace("local", "prefix")  # Debian's has no headers
    headers = Path(sysconfig.get_path("include", scheme))
    return compiler is not None and (headers / "Python.h").is_file()


def _kernels() -> Any:  # noqa: ANN401 (to the type checker, options of a launch are no parameters)
    from ghosttrack.sae import triton_kernels

    return triton_kernels


class Selected(NamedTuple):
    """What is active of each token, by ascending index; an empty slot has value 0 and index 0."""

    values: Float[Tensor, "hook batch k"]
    indices: Int32[Tensor, "hook batch k"]
    fired: Bool[Tensor, "hook latent"]


def select(pre: Float[Tensor, "hook batch latent"], k: int) -> Selected:
    """Set all but the k largest of each row that are above 0 to 0, in place, and list them.

    Of entries that are equal the first ones stay; NaN counts as the largest.
    """
    n_hooks, batch, n_latents = pre.shape
    values, fired = pre.new_empty(n_hooks, batch, k), _none_fired(pre)
    indices = torch.empty_like(values, dtype=torch.int32)
    block = min(_power_of_2(n_latents), WIDEST)
    tile = min(block, 1024)
    _kernels().top_k[(n_hooks * batch,)](
        *(pre, values, indices, fired, n_latents, batch, k),
        SHIFT=DROPPED_BITS[pre.dtype],
        SLOTS=_power_of_2(k),
        BLOCK=block,
        N=-(-n_latents // block),
        TILE=tile,
        num_warps=max(1, block // 1024),
    )
    return Selected(values, indices, fired.view(torch.bool))


def batch_cut(
    pre: Float[Tensor, "hook batch latent"], n: int, total: Callable[[Tensor], Tensor]
) -> Float[Tensor, " hook"]:
    """Find the n-th largest entry over the batches of all ranks, per hook point; 0 if below.

    Args:
        pre: Of this rank.
        n: Of the global batch.
        total: Sums a tensor over the ranks, in place.
    """
    n_hooks, n_entries = len(pre), pre[0].numel()
    prefix = torch.zeros(n_hooks, dtype=torch.int32, device=pre.device)
    left = torch.full_like(prefix, n)
    block = min(_power_of_2(n_entries), 4096)
    grid = (-(-n_entries // (block * SHARE)), n_hooks)
    digits = range(24, DROPPED_BITS[pre.dtype] // 8 * 8 - 1, -8)
    for digit in digits:
        counts = torch.zeros(n_hooks, 256, dtype=torch.int32, device=pre.device)
        _kernels().count_digits[grid](
            pre, prefix, counts, n_entries, DIGIT=digit, BLOCK=block, N=SHARE
        )
        n_from = total(counts).flip(1).cumsum(1, dtype=torch.int32).flip(1)
        largest = (n_from >= left[:, None]).sum(1, keepdim=True) - 1
        n_above = n_from.gather(1, largest) - counts.gather(1, largest)
        left, prefix = left - n_above[:, 0], prefix * 256 + largest[:, 0].to(torch.int32)
    return (prefix << digits[-1]).view(torch.float32)


def above(
    pre: Float[Tensor, "hook batch latent"], cut: Float[Tensor, " hook"]
) -> Bool[Tensor, "hook latent"]:
    """Set what does not reach the cut, or is not above 0, to 0, in place.

    Returns:
        Latents that are left on any token.
    """
    n_hooks, batch, n_latents = pre.shape
    fired, block = _none_fired(pre), min(_power_of_2(n_latents), 2048)
    grid = (n_hooks * batch, -(-n_latents // block))
    _kernels().above[grid](pre, cut, fired, n_latents, batch, BLOCK=block)
    return fired.view(torch.bool)


def _none_fired(pre: Tensor) -> Tensor:
    """As bytes, for a program writes none but ones."""
    return torch.zeros(len(pre), pre.shape[2], dtype=torch.uint8, device=pre.device)


def _power_of_2(n: int) -> int:
    """Round up, to at least 16."""
    return max(16, 1 << (n - 1).bit_length())


class DecodedRows(NamedTuple):
    """A reconstruction's error as a gradient, and what of it reaches the active latents."""

    gradient: Float[Tensor, "hook batch d_model"]
    squared: Float[Tensor, " hook"]
    """Sum of the squares of the error."""
    d_values: Float[Tensor, "hook batch k"]


def decode(
    chosen: Selected,
    latents: Float[Tensor, "hook latent d_model"],
    inputs: Float[Tensor, "hook batch d_model"],
    scale: float,
) -> DecodedRows:
    """Reconstruct, and project scale times the error on the live rows."""
    n_hooks, batch, d_model = inputs.shape
    k, gradient = chosen.values.shape[2], torch.empty_like(inputs)
    squares = inputs.new_empty(n_hooks, batch)
    d_values = torch.empty_like(chosen.values, dtype=inputs.dtype)
    slots = _power_of_2(k)
    block = max(32, min(4096 // slots, 256))
    _kernels().decode[(n_hooks * batch,)](
        *(chosen.values, chosen.indices, latents, inputs, gradient, squares, d_values),
        *(latents.shape[1], batch, d_model, k, scale),
        SLOTS=slots,
        BLOCK=block,
        num_warps=max(4, slots * block // 1024),
    )
    return DecodedRows(gradient, squares.sum(1), d_values)


def scatter(
    acts: Float[Tensor, "hook batch latent"],
    chosen: Selected,
    d_values: Float[Tensor, "hook batch k"],
) -> None:
    """Overwrite the activations with their gradients, in place."""
    k = d_values.shape[2]
    _kernels().scatter[(acts.shape[0] * acts.shape[1],)](
        *(acts, chosen.values, chosen.indices, d_values, acts.shape[2], k),
        SLOTS=_power_of_2(k),
        num_warps=1,
    )


class Move(NamedTuple):
    """How far Adam goes at a step."""

    lr: float
    betas: tuple[float, float]
    eps: float
    factor: Float[Tensor, " hook"]
    """By which gradients are clipped."""
    correction: Float[Tensor, " 2"]
    """1 - beta1^t and sqrt(1 - beta2^t)."""


def square_rows(
    rows: Float[Tensor, "hook latent d_model"],
    gradient: Float[Tensor, "hook latent d_model"],
    *,
    is_unit: bool,
) -> Float[Tensor, " hook"]:
    """Sum the squares of a gradient; of unit rows, without its parts along them."""
    n_hooks, n_latents, d_model = rows.shape
    squares, block = rows.new_empty(n_hooks, n_latents), _power_of_2(d_model)
    _kernels().square_rows[(n_hooks * n_latents,)](
        *(rows, gradient, squares, d_model),
        UNIT=is_unit,
        BLOCK=block,
        num_warps=_warps(block),
    )
    return squares.sum(1)


def adam_rows(
    rows: Float[Tensor, "hook latent d_model"],
    gradient: Float[Tensor, "hook latent d_model"],
    moments: tuple[Tensor, Tensor],
    move: Move,
    copy: Tensor | None,
    *,
    is_unit: bool,
) -> None:
    """Move rows, their moments, and a copy in fewer bits, in place; unit rows stay unit rows."""
    n_hooks, n_latents, d_model = rows.shape
    block = _power_of_2(d_model)
    _kernels().adam_rows[(n_hooks * n_latents,)](
        *(rows, gradient, *moments, copy, move.factor, move.correction),
        *(n_latents, d_model, move.lr),
        BETA1=move.betas[0],
        BETA2=move.betas[1],
        EPS=move.eps,
        UNIT=is_unit,
        BLOCK=block,
        num_warps=_warps(block),
    )


def _warps(block: int) -> int:
    """Give each thread eight of a row's entries."""
    return max(1, min(block // 256, 16))
