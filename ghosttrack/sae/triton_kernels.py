"""Row kernels of a step on a GPU, in Triton: a program per row, no kernel knows torch.

Loads are widened to fp32 and sums run in fp32, in an order that the shapes alone give: no float is
added atomically, so equal inputs give equal bits. Bytes are those of GPU memory, at 24 hook points
x 4,096 tokens, d_model 1024, d_sae 5120, k 64, bf16 products.
"""
# Triton reads the source: neither shapes nor records, and `constexpr` in place of types
# ruff: noqa: ANN001, ANN201, ANN202, PLR0913

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def _keys(pre, at, n_latents, SHIFT: tl.constexpr):
    """Map what is above 0 to integers in the same order, NaN above all, and the rest to 0.

    SHIFT drops the bits that the number format does not have.
    """
    x = tl.load(pre + at, mask=at < n_latents, other=0.0).to(tl.float32)
    keys = tl.where(x > 0, x.to(tl.int32, bitcast=True), 0)
    return tl.where(x != x, 0x7FFFFFFE, keys) >> SHIFT


@triton.jit
@no_type_check
def _number_from(
    pre, first, cut, n_latents, SHIFT: tl.constexpr, BLOCK: tl.constexpr, N: tl.constexpr
):
    """Count the keys of a row from a cut up; the first of N tiles is at hand."""
    n = tl.sum((first >= cut).to(tl.int32))
    for tile in range(1, N):
        at = tile * BLOCK + tl.arange(0, BLOCK)
        n += tl.sum((_keys(pre, at, n_latents, SHIFT) >= cut).to(tl.int32))
    return n


@triton.jit
@no_type_check
def _keep(
    pre,
    values,
    indices,
    fired,
    at,
    keys,
    cut,
    n_before,
    n_ties,
    n_left,
    n_latents,
    SHIFT: tl.constexpr,
):
    """Write what a tile has above the cut, and of those at the cut the first ones."""
    above, tie = keys > cut, keys == cut
    counts = tl.cumsum(above.to(tl.int32) + (tie.to(tl.int32) << 16), 0)  # both in one scan
    ties = n_ties + (counts >> 16)
    kept = above | (tie & (ties <= n_left))
    slot = n_before + (counts & 0xFFFF) + tl.minimum(ties, n_left) - 1
    x = tl.where(kept, keys << SHIFT, 0).to(tl.float32, bitcast=True)
    tl.store(values + slot, x, mask=kept)
    tl.store(indices + slot, at, mask=kept)
    tl.store(pre + at, x, mask=at < n_latents)
    tl.store(fired + at, 1, mask=kept)
    return n_before + tl.sum(above.to(tl.int32)), n_ties + tl.sum(tie.to(tl.int32))


@triton.jit
@no_type_check
def top_k(
    pre, values, indices, fired, n_latents, batch, k,
    SHIFT: tl.constexpr, SLOTS: tl.constexpr, BLOCK: tl.constexpr, N: tl.constexpr,
    TILE: tl.constexpr,
):  # fmt: skip
    """Keep the k largest of a row that are above 0, in place; list them by ascending index.

    Finds the k-th key by bisection in registers, from the row's maximum down, and stops early where
    a cut parts exactly k. Of equal ones the first stay. An empty slot has value 0 and index 0.

    2.1 GB, the floor: each pre-activation read once and written once. A row wider than a block is
    read again, out of the L2 cache, for every cut that is tried.
    """
    row = tl.program_id(0).to(tl.int64)
    pre, values, indices = pre + row * n_latents, values + row * k, indices + row * k
    fired += row // batch * n_latents
    lane = tl.arange(0, BLOCK)
    first = _keys(pre, lane, n_latents, SHIFT)
    high = tl.max(first) + 1
    for tile in range(1, N):
        high = tl.maximum(high, tl.max(_keys(pre, tile * BLOCK + lane, n_latents, SHIFT)) + 1)
    low, step, n_above = 1, 1 << (24 - SHIFT), 0  # a step of two powers of 2, then twice as many
    while high - low > 1:
        cut = tl.maximum(low + ((high - low) >> 1), high - step)
        n = _number_from(pre, first, cut, n_latents, SHIFT, BLOCK, N)
        if n >= k:
            low = cut
        if n == k:
            high = cut + 1
        if n < k:
            high, n_above = cut, n
            step = tl.minimum(step * 2, 1 << 29)
    n_left, n_before, n_ties = k - n_above, 0, 0
    for start in range(0, n_latents, TILE):
        at = start + tl.arange(0, TILE)
        keys = _keys(pre, at, n_latents, SHIFT)
        n_before, n_ties = _keep(
            pre, values, indices, fired, at, keys, low, n_before, n_ties, n_left, n_latents, SHIFT
        )
    slot = tl.arange(0, SLOTS)
    is_empty = (slot < k) & (slot >= n_before + tl.minimum(n_ties, n_left))
    tl.store(values + slot, 0.0, mask=is_empty)
    tl.store(indices + slot, 0, mask=is_empty)


@triton.jit
@no_type_check
def count_digits(
    pre, prefix, counts, n_entries, DIGIT: tl.constexpr, BLOCK: tl.constexpr, N: tl.constexpr
):  # fmt: skip
    """Count, per hook point, the bytes at bit DIGIT of the keys that begin with a prefix.

    A digit of a radix selection. 1 GB read for each, of which bf16 has two and fp32 four.
    """
    hook = tl.program_id(1).to(tl.int64)
    wanted, total = tl.load(prefix + hook), tl.zeros([256], tl.int32)
    for tile in range(N):
        at = (tl.program_id(0) * N + tile) * BLOCK + tl.arange(0, BLOCK)
        digits = _keys(pre + hook * n_entries, at, n_entries, 0) >> DIGIT
        is_counted = (at < n_entries) & (digits >> 8 == wanted)
        total += tl.histogram(digits & 255, 256, mask=is_counted)
    tl.atomic_add(counts + hook * 256 + tl.arange(0, 256), total)


@triton.jit
@no_type_check
def above(pre, cut, fired, n_latents, batch, BLOCK: tl.constexpr):
    """Keep what is above 0 and reaches the hook point's cut, in place: 2 GB, the floor."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    hook, inside = row // batch, at < n_latents
    x = tl.load(pre + row * n_latents + at, mask=inside, other=0.0).to(tl.float32)
    kept = ((x > 0) & (x >= tl.load(cut + hook))) | (x != x)
    tl.store(pre + row * n_latents + at, tl.where(kept, x, 0.0), mask=inside)
    tl.store(fired + hook * n_latents + at, 1, mask=kept & inside)


@triton.jit
@no_type_check
def decode(
    values, indices, latents, inputs, gradient, squares, d_values,
    n_latents, batch, d_model, k, scale, SLOTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Reconstruct a token, and project the error on its live rows while these are in registers.

    A block of columns of the reconstruction is whole once the token's k rows have been summed over
    it, so each block of the rows is gathered once and used for both. An entry of value 0 gathers
    nothing; its gradient is 0.

    0.8 GB of memory beside 12.9 GB out of the L2 cache, that holds the 10.5 MB of rows of the hook
    point whose tokens run; two GEMMs, their 1 GB of output and the gate's 3 GB are saved.
    """
    token = tl.program_id(0).to(tl.int64)
    slot = tl.arange(0, SLOTS)
    inside = slot < k
    v = tl.load(values + token * k + slot, mask=inside, other=0.0).to(tl.float32)
    latent = tl.load(indices + token * k + slot, mask=inside, other=0)
    row = latents + (token // batch * n_latents + latent) * d_model
    d, square = tl.zeros([SLOTS], tl.float32), 0.0
    for start in range(0, d_model, BLOCK):
        at = start + tl.arange(0, BLOCK)
        is_column = at < d_model
        is_live = (v != 0)[:, None] & is_column[None, :]
        rows = tl.load(row[:, None] + at[None, :], mask=is_live, other=0.0).to(tl.float32)
        x = tl.load(inputs + token * d_model + at, mask=is_column, other=0.0).to(tl.float32)
        error = tl.sum(v[:, None] * rows, 0) - x
        square += tl.sum(error * error)
        d += tl.sum(rows * error[None, :], 1)
        tl.store(gradient + token * d_model + at, scale * error, mask=is_column)
    tl.store(d_values + token * k + slot, scale * d, mask=inside)
    tl.store(squares + token, square)


@triton.jit
@no_type_check
def scatter(dense, values, indices, entries, n_latents, k, SLOTS: tl.constexpr):
    """Overwrite the entries of a dense row that are not 0: .4 GB, of a matrix of 1 GB."""
    token = tl.program_id(0).to(tl.int64)
    slot = tl.arange(0, SLOTS)
    is_live = (slot < k) & (tl.load(values + token * k + slot, mask=slot < k, other=0.0) != 0)
    latent = tl.load(indices + token * k + slot, mask=is_live, other=0)
    entry = tl.load(entries + token * k + slot, mask=is_live, other=0.0)
    tl.store(dense + token * n_latents + latent, entry, mask=is_live)


@triton.jit
@no_type_check
def _tangent(rows, gradient, at, d_model, UNIT: tl.constexpr):
    """Load a row and its gradient; of a unit vector's, without the part along it."""
    w = tl.load(rows + at, mask=at < d_model, other=0.0)
    g = tl.load(gradient + at, mask=at < d_model, other=0.0)
    if UNIT:
        g -= tl.sum(w * g) * w
    return w, g


@triton.jit
@no_type_check
def square_rows(rows, gradient, squares, d_model, UNIT: tl.constexpr, BLOCK: tl.constexpr):
    """Sum the squares of a gradient's row, for the clip: 1 GB for W_dec, half of it for W_enc."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    start = row * d_model
    _, g = _tangent(rows + start, gradient + start, at, d_model, UNIT)
    tl.store(squares + row, tl.sum(g * g))


@triton.jit
@no_type_check
def adam_rows(
    rows, gradient, mean, square, copy, factor, correction, n_latents, d_model, lr,
    BETA1: tl.constexpr, BETA2: tl.constexpr, EPS: tl.constexpr, UNIT: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Project, clip, move by Adam, renormalise, and write the row a second time in fewer bits.

    Source: Kingma & Ba 2015, algorithm 1, in the order of operations of `torch.optim.Adam`.

    3.8 GB for each of W_dec and W_enc, the floor: weight, gradient and two moments are read, all
    but the gradient written, and the copy.
    """
    row = tl.program_id(0).to(tl.int64)
    at, start = tl.arange(0, BLOCK), row * d_model
    inside = at < d_model
    w, g = _tangent(rows + start, gradient + start, at, d_model, UNIT)
    g *= tl.load(factor + row // n_latents)
    m = tl.load(mean + start + at, mask=inside, other=0.0)
    v = tl.load(square + start + at, mask=inside, other=0.0)
    m += (1 - BETA1) * (g - m)
    v = BETA2 * v + (1 - BETA2) * g * g
    w -= lr / tl.load(correction) * m / (tl.sqrt(v) / tl.load(correction + 1) + EPS)
    if UNIT:
        w /= tl.maximum(tl.sqrt(tl.sum(w * w)), 1e-12)
    tl.store(rows + start + at, w, mask=inside)
    tl.store(mean + start + at, m, mask=inside)
    tl.store(square + start + at, v, mask=inside)
    if copy is not None:
        tl.store(copy + start + at, w, mask=inside)
