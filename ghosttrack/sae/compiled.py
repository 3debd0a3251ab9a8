"""Row kernels of a sparse step on a CPU, compiled by numba, on as many threads as torch has.

Torch has no fused form of these: each reads a row once where the torch path reads it several times
or sorts. They take and give torch tensors in fp32 or fp64, in CSR form: the entries of token t are
`values[starts[t]:starts[t + 1]]` and likewise `indices`. Which
entries are selected does not depend on the number of threads; sums over rows do by rounding, as
torch's own.
"""

import functools
import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, NamedTuple, no_type_check

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

AVAILABLE = importlib.util.find_spec("numba") is not None
"""False on a Python that numba does not know yet; the torch paths then do the work."""

SHARED_FROM = 2**20
"""Elements from which a second thread repays its call."""
TILE_FLOATS = 2**22
"""Pre-activations that a thread holds at once: 16 MiB in fp32, which stay in the cache."""


def _compile(function: Callable[..., Any], *, fast: bool = True) -> Callable[..., Any]:
    """Compile on first use; keep the result on disk where there is a place for it."""
    if not AVAILABLE:
        return function
    import numba

    # sums may be reordered, so that they run in vector registers; NaN and infinity stay themselves
    options = {"nogil": True, "fastmath": {"contract", "reassoc", "nsz"} if fast else False}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the home can be written
        return numba.njit(**options)(function)


def _exact(function: Callable[..., Any]) -> Callable[..., Any]:
    return _compile(function, fast=False)


class Rows(NamedTuple):
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


def select(
    pre_acts: Float[Tensor, "row latent"], k: int
) -> tuple[Float[Tensor, "row k"], Int64[Tensor, "row k"]]:
    """Select the k largest of each row, in ascending order of their index."""
    n_rows = len(pre_acts)
    values, indices = pre_acts.new_empty(n_rows, k), torch.empty(n_rows, k, dtype=torch.long)
    pre, out, at = pre_acts.numpy(), values.numpy(), indices.numpy()
    _each(_even(pre_acts), lambda low, high: _select(pre, k, out, at, low, high))
    return values, indices


def keep(pre_acts: Float[Tensor, "row latent"], k: int) -> None:
    """Set all but the k largest of each row to 0, and what is below 0, in place."""
    pre = pre_acts.numpy()
    _each(_even(pre_acts), lambda low, high: _keep(pre, k, low, high))


class Residual(NamedTuple):
    """Sums over the rows of an error, which itself has become a gradient."""

    squared: Float[Tensor, ""]
    total: Float[Tensor, " d_model"]
    """Of the gradient."""


def residual(
    decoded: Float[Tensor, "row d_model"], inputs: Float[Tensor, "row d_model"], scale: float
) -> Residual:
    """Turn `decoded` into scale * (decoded - inputs), in place, and sum the error's squares."""
    spans = _even(decoded)
    squared, total = decoded.new_zeros(len(spans)), decoded.new_zeros(len(spans), decoded.shape[1])
    arrays = [tensor.numpy() for tensor in (decoded, inputs, squared, total)]
    _each(spans, lambda low, high: _residual(*arrays, scale, spans.index(low), low, high))
    return Residual(squared.sum(), total.sum(0))


class Gated(NamedTuple):
    """Sums over the rows of a gated gradient."""

    total: Float[Tensor, " latent"]
    fired: Bool[Tensor, " latent"]


def gate(d_acts: Float[Tensor, "row latent"], acts: Float[Tensor, "row latent"]) -> Gated:
    """Set the gradient of latents that are not active to 0, in place."""
    spans = _even(acts)
    total, most = acts.new_zeros(2, len(spans), acts.shape[1])
    arrays = [tensor.numpy() for tensor in (d_acts, acts, total, most)]
    _each(spans, lambda low, high: _gate(*arrays, spans.index(low), low, high))
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
    _each(_even(rows), lambda low, high: _project(*arrays, low, high))
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
    spans = _even(inputs)
    size = max(1, min(TILE_FLOATS // n_latents, -(-n_rows // (len(spans) - 1))))

    def run(low: int, high: int) -> None:
        tile = inputs.new_empty(size, n_latents)
        for start in range(low, high, size):
            span = slice(start, min(start + size, high))
            pre = torch.addmm(b_enc, inputs[span], W_enc, out=tile[: span.stop - start]).numpy()
            _select(pre, k, out[span], at[span], 0, len(pre))

    _each(spans, run)
    return values, indices


def above(pre_acts: Float[Tensor, "row latent"], cut: float) -> Rows:
    """Collect what is above 0 and at least `cut`."""
    n_rows = len(pre_acts)
    starts = torch.zeros(n_rows + 1, dtype=torch.long)
    pre, counts = pre_acts.numpy(), starts.numpy()[1:]
    _each(_even(pre_acts), lambda low, high: _count(pre, cut, counts, low, high))
    starts = starts.cumsum(0)
    n_entries = int(starts[-1])
    rows = Rows(starts, pre_acts.new_empty(n_entries), torch.empty(n_entries, dtype=torch.long))
    arrays = [tensor.numpy() for tensor in rows]
    _each(_even(pre_acts), lambda low, high: _collect(pre, cut, *arrays, low, high))
    return rows


class Decoded(NamedTuple):
    """What a sparse step takes from the decoder."""

    gradient: Float[Tensor, "row d_model"]
    d_values: Float[Tensor, " entry"]


def decode(
    rows: Rows, latents: Float[Tensor, "latent d_model"], inputs: Float[Tensor, "row d_model"],
    scale: float,
) -> Decoded:  # fmt: skip
    """Reconstruct, and project the error on the live rows while they are in the cache.

    The gradient is scale * (sum(values * latents[indices]) - inputs); that of an entry's value is
    its product with the entry's row, 0 where the value is 0.
    """
    gradient, d_values = torch.empty_like(inputs), torch.empty_like(rows.values)
    arrays = [tensor.numpy() for tensor in (*rows, latents, inputs, gradient, d_values)]
    _each(_even(inputs), lambda low, high: _decode(*arrays, scale, low, high))
    return Decoded(gradient, d_values)


def transpose(rows: Rows, d_values: Float[Tensor, " entry"], n_latents: int) -> Transposed:
    """Sort the active entries by latent."""
    starts = torch.zeros(n_latents + 1, dtype=torch.long)
    blank = (torch.empty_like(rows.indices), torch.empty_like(d_values), torch.empty_like(d_values))
    by_latent = Transposed(starts, *blank)
    _transpose(*(tensor.numpy() for tensor in (*rows, d_values, *by_latent)))
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
    _each(bounds.tolist(), lambda low, high: _accumulate(*arrays, low, high))
    return out


def _even(rows: Tensor) -> list[int]:
    """Cut rows into a span per thread; too little work stays on this one."""
    n, n_threads = len(rows), torch.get_num_threads() if rows.numel() >= SHARED_FROM else 1
    return [n * i // n_threads for i in range(n_threads + 1)]


def _each(bounds: list[int], run: Callable[[int, int], None]) -> None:
    """Run the spans between bounds side by side."""
    if len(bounds) == 2:
        run(*bounds)
        return
    list(_pool(len(bounds) - 1).map(run, bounds[:-1], bounds[1:]))


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


# numba compiles what follows: plain loops over arrays, a span of rows at a time.


@_exact
@no_type_check
def _nth_largest(work, n, rank):  # noqa: ANN001, ANN202
    """Hoare's selection; reorders `work`."""
    low, high = 0, n - 1
    while low < high:
        pivot = work[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while work[i] > pivot:
                i += 1
            while work[j] < pivot:
                j -= 1
            if i <= j:
                work[i], work[j] = work[j], work[i]
                i += 1
                j -= 1
        if rank <= j:
            high = j
        elif rank >= i:
            low = i
        else:
            break
    return work[rank]


@_exact
@no_type_check
def _select(pre, k, values, indices, low, high):  # noqa: ANN001, ANN202, C901
    """Search only among what passes a cut a little below the k-th of the row before."""
    n_latents = pre.shape[1]
    kept, work = np.empty(n_latents, pre.dtype), np.empty(n_latents, pre.dtype)
    at = np.empty(n_latents, np.int64)
    cut = -np.inf
    for t in range(low, high):
        row = pre[t]
        n = 0
        for j in range(n_latents):
            if not row[j] < cut:
                kept[n] = row[j] if row[j] == row[j] else np.inf  # NaN counts as the largest
                at[n] = j
                n += 1
        if n < k:  # the row before was no guide
            n = n_latents
            for j in range(n_latents):
                kept[j] = row[j]
                at[j] = j
        for i in range(n):
            work[i] = kept[i]
        least = _nth_largest(work, n, k - 1)
        n_ties = k
        for i in range(n):
            n_ties -= kept[i] > least
        m = 0
        for i in range(n):
            is_tie = kept[i] == least
            if kept[i] > least or (is_tie and n_ties > 0):
                n_ties -= is_tie
                values[t, m] = kept[i]
                indices[t, m] = at[i]
                m += 1
        cut = least - 0.1 * abs(least) if abs(least) < np.inf else -np.inf


@_compile
@no_type_check
def _number_from(row, cut):  # noqa: ANN001, ANN202
    n = np.float32(0)  # as wide as the entries, so that it counts in vector registers
    for j in range(len(row)):
        n += np.float32(1) if row[j] >= cut else np.float32(0)
    return n


@_compile
@no_type_check
def _range(row):  # noqa: ANN001, ANN202
    low = high = row[0]
    for j in range(len(row)):
        low, high = min(low, row[j]), max(high, row[j])
    return low, high


@_exact
@no_type_check
def _keep(pre, k, low, high):  # noqa: ANN001, ANN202, C901
    """Look for a cut that k entries reach, by counting: from the row before's, by interpolation."""
    wanted, zero = np.float32(k), pre.dtype.type(0)
    guess = zero
    for t in range(low, high):
        row = pre[t]
        least, most = _range(row)
        n_least, n_most = np.float32(len(row)), _number_from(row, most)
        if n_most >= wanted:
            least, n_least = most, n_most
        cut, turn = guess, 0
        while n_least != wanted:
            if not least < cut < most:
                cut = least + (most - least) / 2
                if not least < cut < most:
                    break  # no number lies between: those that equal `least` are tied
            n = _number_from(row, cut)
            if n >= wanted:
                least, n_least = cut, n
            else:
                most, n_most = cut, n
            turn += 1
            share = 0.5 if turn % 4 == 0 else (n_least - wanted + 0.5) / (n_least - n_most + 1)
            cut = least + pre.dtype.type(share) * (most - least)
        guess = least
        if n_least != wanted:
            _drop_ties(row, k, least)
        least = max(least, zero)
        for j in range(len(row)):
            row[j] = zero if row[j] < least else row[j]


@_exact
@no_type_check
def _drop_ties(row, k, cut):  # noqa: ANN001, ANN202
    """Set the last ones of those that equal the cut to 0, so that k are left."""
    n_left = k
    for j in range(len(row)):
        n_left -= row[j] > cut
    for j in range(len(row)):
        if row[j] == cut:
            if n_left <= 0:
                row[j] = 0
            n_left -= 1


@_compile
@no_type_check
def _residual(decoded, inputs, squared, total, scale, span, low, high):  # noqa: ANN001, ANN202, PLR0913
    zero, scale = decoded.dtype.type(0), decoded.dtype.type(scale)
    for t in range(low, high):
        row, of_row, sums = decoded[t], inputs[t], total[span]
        square = zero
        for c in range(len(row)):
            error = row[c] - of_row[c]
            square += error * error
            row[c] = scale * error
            sums[c] += scale * error
        squared[span] += square


@_compile
@no_type_check
def _gate(d_acts, acts, total, most, span, low, high):  # noqa: ANN001, ANN202, PLR0913
    zero = acts.dtype.type(0)
    for t in range(low, high):
        d, a, sums, greatest = d_acts[t], acts[t], total[span], most[span]
        for j in range(len(d)):
            d[j] = d[j] if a[j] > zero else zero
            sums[j] += d[j]
            greatest[j] = a[j] if a[j] > greatest[j] else greatest[j]


@_compile
@no_type_check
def _project(rows, gradient, squares, low, high):  # noqa: ANN001, ANN202
    d_model = rows.shape[1]
    for i in range(low, high):
        w, g = rows[i], gradient[i]
        along = total = rows.dtype.type(0)
        for c in range(d_model):
            along += w[c] * g[c]
        for c in range(d_model):
            g[c] -= along * w[c]
        for c in range(d_model):
            total += g[c] * g[c]
        squares[i] = total


@_compile
@no_type_check
def _count(pre, cut, counts, low, high):  # noqa: ANN001, ANN202
    for t in range(low, high):
        n = 0
        for j in range(pre.shape[1]):
            n += (pre[t, j] >= cut) & (pre[t, j] > 0)
        counts[t] = n


@_compile
@no_type_check
def _collect(pre, cut, starts, values, indices, low, high):  # noqa: ANN001, ANN202, PLR0913
    for t in range(low, high):
        n = starts[t]
        for j in range(pre.shape[1]):
            if pre[t, j] >= cut and pre[t, j] > 0:
                values[n] = pre[t, j]
                indices[n] = j
                n += 1


@_compile
@no_type_check
def _decode(  # noqa: ANN202, C901, PLR0913
    starts, values, indices, latents, inputs, gradient, d_values, scale, low, high  # noqa: ANN001
):  # fmt: skip
    """Take four latents at a time: their sum passes through the cache once."""
    d_model = inputs.shape[1]
    zero, scale = inputs.dtype.type(0), inputs.dtype.type(scale)
    for t in range(low, high):
        e = gradient[t]
        for c in range(d_model):
            e[c] = -inputs[t, c]
        first, last = starts[t], starts[t + 1]
        fours = first + (last - first) // 4 * 4
        for q in range(first, fours, 4):
            v0, v1, v2, v3 = values[q], values[q + 1], values[q + 2], values[q + 3]
            r0, r1 = latents[indices[q]], latents[indices[q + 1]]
            r2, r3 = latents[indices[q + 2]], latents[indices[q + 3]]
            for c in range(d_model):
                e[c] += (v0 * r0[c] + v1 * r1[c]) + (v2 * r2[c] + v3 * r3[c])
        for q in range(fours, last):
            v0, r0 = values[q], latents[indices[q]]
            for c in range(d_model):
                e[c] += v0 * r0[c]
        for c in range(d_model):
            e[c] *= scale
        for q in range(first, fours, 4):
            r0, r1 = latents[indices[q]], latents[indices[q + 1]]
            r2, r3 = latents[indices[q + 2]], latents[indices[q + 3]]
            s0 = s1 = s2 = s3 = zero
            for c in range(d_model):
                s0 += e[c] * r0[c]
                s1 += e[c] * r1[c]
                s2 += e[c] * r2[c]
                s3 += e[c] * r3[c]
            d_values[q] = s0
            d_values[q + 1] = s1
            d_values[q + 2] = s2
            d_values[q + 3] = s3
        for q in range(fours, last):
            r0, s0 = latents[indices[q]], zero
            for c in range(d_model):
                s0 += e[c] * r0[c]
            d_values[q] = s0
        for q in range(first, last):
            if values[q] == 0:
                d_values[q] = zero


@_compile
@no_type_check
def _transpose(  # noqa: ANN202, PLR0913
    starts, values, indices, d_values, l_starts, l_tokens, l_values, l_d_values  # noqa: ANN001
):  # fmt: skip
    for q in range(len(indices)):
        if values[q] != 0:
            l_starts[indices[q] + 1] += 1
    for i in range(len(l_starts) - 1):
        l_starts[i + 1] += l_starts[i]
    place = l_starts[:-1].copy()
    for t in range(len(starts) - 1):
        for q in range(starts[t], starts[t + 1]):
            if values[q] != 0:
                at = place[indices[q]]
                place[indices[q]] += 1
                l_tokens[at] = t
                l_values[at] = values[q]
                l_d_values[at] = d_values[q]


@_compile
@no_type_check
def _accumulate(starts, tokens, weights, rows, out, low, high):  # noqa: ANN001, ANN202, PLR0913
    """Take eight tokens at a time: that many reads from memory are under way at once."""
    d_model = rows.shape[1]
    for i in range(low, high):
        o = out[i]
        for c in range(d_model):
            o[c] = 0
        first, last = starts[i], starts[i + 1]
        eights = first + (last - first) // 8 * 8
        for q in range(first, eights, 8):
            w0, w1, w2, w3 = weights[q], weights[q + 1], weights[q + 2], weights[q + 3]
            w4, w5, w6, w7 = weights[q + 4], weights[q + 5], weights[q + 6], weights[q + 7]
            r0, r1 = rows[tokens[q]], rows[tokens[q + 1]]
            r2, r3 = rows[tokens[q + 2]], rows[tokens[q + 3]]
            r4, r5 = rows[tokens[q + 4]], rows[tokens[q + 5]]
            r6, r7 = rows[tokens[q + 6]], rows[tokens[q + 7]]
            for c in range(d_model):
                o[c] += ((w0 * r0[c] + w1 * r1[c]) + (w2 * r2[c] + w3 * r3[c])) + (
                    (w4 * r4[c] + w5 * r5[c]) + (w6 * r6[c] + w7 * r7[c])
                )
        for q in range(eights, last):
            w0, r0 = weights[q], rows[tokens[q]]
            for c in range(d_model):
                o[c] += w0 * r0[c]
