"""Row kernels of a sparse step on a CPU: torch tensors in and out, on as many threads as torch has.

Torch has no fused form of these: each reads a row once where the torch path reads it several times
or sorts. Tensors are in fp32 or fp64, and sparse ones in CSR form: the entries of token t are
`values[starts[t]:starts[t + 1]]` and likewise `indices`. Which entries are selected does not depend
on the number of threads; sums over rows do by rounding, as torch's own.
"""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ghosttrack import jit
from ghosttrack.sae import kernels

SHARED_FROM = 2**20
"""Elements from which a second thread repays its call."""
TILE_FLOATS = 2**22
"""Pre-activations that a thread holds at once: 16 MiB in fp32, which stay in the cache."""


class SparseRows(NamedTuple):
    """Active entries per token, in CSR form; an entry of value 0 is inactive."""

    starts: Int64[Tensor, " token+1"]
    values: Float[Tensor, " entry"]
    indices: Int64[Tensor, " entry"]


class Transposed(NamedTuple):
    """Active entries per latent; in ascending order of tokens."""

    starts: Int64[Tensor, " latent+1"]
    tokens: Int64[Tensor, " entry"]
    values: Float[Tensor, " entry"]
    d_values: Float[Tensor, " entry"]


def is_compiled(tensor: Tensor) -> bool:
    """Tell whether the kernels can take it."""
    on_cpu = jit.AVAILABLE and tensor.device.type == "cpu"
    no_gradient = not (torch.is_grad_enabled() and tensor.requires_grad)
    return on_cpu and no_gradient and tensor.dtype in (torch.float32, torch.float64)


def select(
    pre_acts: Float[Tensor, "row latent"], k: int
) -> tuple[Float[Tensor, "row k"], Int64[Tensor, "row k"]]:
    """Select the k largest of each row, in ascending order of their index."""
    n_rows = len(pre_acts)
    values, indices = pre_acts.new_empty(n_rows, k), torch.empty(n_rows, k, dtype=torch.long)
    pre, out, at = pre_acts.numpy(), values.numpy(), indices.numpy()
    _each(_even(pre_acts), lambda _, low, high: kernels.select(pre, k, out, at, low, high))
    return values, indices


def keep(pre_acts: Float[Tensor, "row latent"], k: int) -> None:
    """Set all but the k largest of each row to 0, and what is below 0, in place."""
    pre = pre_acts.numpy()
    _each(_even(pre_acts), lambda _, low, high: kernels.keep(pre, k, low, high))


class Residual(NamedTuple):
    """Sums over the rows of an error, which itself has become a gradient."""

    squared: Float[Tensor, ""]
    total: Float[Tensor, " d_model"]
    """Of the gradient."""


def residual(
    decoded: Float[Tensor, "row d_model"], inputs: Float[Tensor, "row d_model"], scale: float
) -> Residual:
    """Turn `decoded` into scale * (decoded - inputs), in place, and sum the error's squares."""
    bounds = _even(decoded)
    n_spans = len(bounds) - 1
    squared, total = decoded.new_zeros(n_spans), decoded.new_zeros(n_spans, decoded.shape[1])
    arrays = [tensor.numpy() for tensor in (decoded, inputs, squared, total)]
    _each(bounds, lambda span, low, high: kernels.residual(*arrays, scale, span, low, high))
    return Residual(squared.sum(), total.sum(0))


class Gated(NamedTuple):
    """Sums over the rows of a gated gradient."""

    total: Float[Tensor, " latent"]
    fired: Bool[Tensor, " latent"]


def gate(d_acts: Float[Tensor, "row latent"], acts: Float[Tensor, "row latent"]) -> Gated:
    """Set the gradient of latents that are not active to 0, in place."""
    bounds = _even(acts)
    total, most = acts.new_zeros(2, len(bounds) - 1, acts.shape[1])
    arrays = [tensor.numpy() for tensor in (d_acts, acts, total, most)]
    _each(bounds, lambda span, low, high: kernels.gate(*arrays, span, low, high))
    return Gated(total.sum(0), most.sum(0) > 0)


def project(
    rows: Float[Tensor, "row d_model"], gradient: Float[Tensor, "row d_model"]
) -> Float[Tensor, ""]:
    """Take each row's part along the unit vector beside it out of a gradient, in place.

    Returns:
        The sum of squares of what is left.
    """
    squares = torch.empty(len(rows), dtype=rows.dtype)
    arrays = [tensor.detach().numpy() for tensor in (rows, gradient, squares)]
    _each(_even(rows), lambda _, low, high: kernels.project(*arrays, low, high))
    return squares.sum()


def encode_select(
    inputs: Float[Tensor, "row d_model"],
    W_enc: Float[Tensor, "d_model latent"],
    b_enc: Float[Tensor, " latent"],
    k: int,
) -> tuple[Float[Tensor, "row k"], Int64[Tensor, "row k"]]:
    """Select the k largest of inputs W_enc + b_enc, which is never whole in memory."""
    n_rows, n_latents = len(inputs), len(b_enc)
    values, indices = inputs.new_empty(n_rows, k), torch.empty(n_rows, k, dtype=torch.long)
    out, at, W_enc, b_enc = values.numpy(), indices.numpy(), W_enc.detach(), b_enc.detach()
    bounds = _even(inputs)
    size = max(1, min(TILE_FLOATS // n_latents, -(-n_rows // (len(bounds) - 1))))

    def run(_span: int, low: int, high: int) -> None:
        tile = inputs.new_empty(size, n_latents)
        for start in range(low, high, size):
            span = slice(start, min(start + size, high))
            pre = torch.addmm(b_enc, inputs[span], W_enc, out=tile[: span.stop - start]).numpy()
            kernels.select(pre, k, out[span], at[span], 0, len(pre))

    _each(bounds, run)
    return values, indices


def above(pre_acts: Float[Tensor, "row latent"], cut: float) -> SparseRows:
    """Collect what is above 0 and at least `cut`."""
    n_rows = len(pre_acts)
    starts = torch.zeros(n_rows + 1, dtype=torch.long)
    pre, counts = pre_acts.numpy(), starts.numpy()[1:]
    _each(_even(pre_acts), lambda _, low, high: kernels.count(pre, cut, counts, low, high))
    starts = starts.cumsum(0)
    n_entries = int(starts[-1])
    rows = SparseRows(
        starts, pre_acts.new_empty(n_entries), torch.empty(n_entries, dtype=torch.long)
    )
    arrays = [tensor.numpy() for tensor in rows]
    _each(_even(pre_acts), lambda _, low, high: kernels.collect(pre, cut, *arrays, low, high))
    return rows


class Decoded(NamedTuple):
    """What a sparse step takes from the decoder."""

    gradient: Float[Tensor, "row d_model"]
    d_values: Float[Tensor, " entry"]


def decode(
    rows: SparseRows, latents: Float[Tensor, "latent d_model"],
    inputs: Float[Tensor, "row d_model"], scale: float,
) -> Decoded:  # fmt: skip
    """Reconstruct, and project the error on the live rows while they are in the cache.

    The gradient is scale * (sum(values * latents[indices]) - inputs); that of an entry's value is
    its product with the entry's row, 0 where the value is 0.
    """
    gradient, d_values = torch.empty_like(inputs), torch.empty_like(rows.values)
    arrays = [tensor.numpy() for tensor in (*rows, latents, inputs, gradient, d_values)]
    _each(_even(inputs), lambda _, low, high: kernels.decode(*arrays, scale, low, high))
    return Decoded(gradient, d_values)


def transpose(rows: SparseRows, d_values: Float[Tensor, " entry"], n_latents: int) -> Transposed:
    """Sort the active entries by latent."""
    starts = torch.zeros(n_latents + 1, dtype=torch.long)
    blank = (torch.empty_like(rows.indices), torch.empty_like(d_values), torch.empty_like(d_values))
    by_latent = Transposed(starts, *blank)
    kernels.transpose(*(tensor.numpy() for tensor in (*rows, d_values, *by_latent)))
    return by_latent


def accumulate(
    by_latent: Transposed, weights: Float[Tensor, " entry"], rows: Float[Tensor, "row d_model"]
) -> Float[Tensor, "latent d_model"]:
    """Sum, per latent, `weights` times the rows of its tokens."""
    n_latents = len(by_latent.starts) - 1
    out = rows.new_empty(n_latents, rows.shape[1])
    arrays = [t.numpy() for t in (by_latent.starts, by_latent.tokens, weights, rows, out)]
    n_threads = torch.get_num_threads()
    shares = torch.arange(n_threads + 1) * int(by_latent.starts[-1]) // n_threads
    bounds = torch.searchsorted(by_latent.starts, shares).clamp_(max=n_latents)
    bounds[0], bounds[-1] = 0, n_latents
    _each(bounds.tolist(), lambda _, low, high: kernels.accumulate(*arrays, low, high))
    return out


def _even(rows: Tensor) -> list[int]:
    """Cut rows into a span per thread; too little work stays on this one."""
    n, n_threads = len(rows), torch.get_num_threads() if rows.numel() >= SHARED_FROM else 1
    return [n * i // n_threads for i in range(n_threads + 1)]


def _each(bounds: list[int], run: Callable[[int, int, int], None]) -> None:
    """Run the spans between bounds side by side, each with its number, start and end."""
    n_spans = len(bounds) - 1
    if n_spans == 1:
        run(0, *bounds)
        return
    list(_pool(n_spans).map(run, range(n_spans), bounds[:-1], bounds[1:]))


@functools.cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    """Start threads in which torch's own operations run on that thread alone.

    OpenMP's workers spin for milliseconds after each product: beside these they would take a core.
    """
    one = functools.partial(torch.set_num_threads, 1)
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="sae-rows", initializer=one)
    started = Barrier(n_threads)
    list(pool.map(lambda _: started.wait(), range(n_threads)))
    torch.set_num_threads(n_threads)  # what threads to come inherit
    return pool
