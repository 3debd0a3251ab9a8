"""Plain loops over arrays, a span of rows at a time, that numba compiles: no kernel knows torch."""
# numba infers types, and takes neither records nor keyword arguments
# ruff: noqa: ANN001, ANN201, ANN202, C901, D103, PLR0913

from typing import no_type_check

import numpy as np

from ghosttrack.jit import exact, fast


@exact
@no_type_check
def _nth_largest(work, n, rank):
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


@exact
@no_type_check
def _passing(row, cut, kept, at):
    n = 0
    for j in range(len(row)):
        if not row[j] < cut:
            kept[n] = row[j] if row[j] == row[j] else np.inf  # NaN counts as the largest
            at[n] = j
            n += 1
    return n


@exact
@no_type_check
def select(pre, k, values, indices, low, high):
    """Search only among what passes a cut a little below the k-th of the row before."""
    n_latents = pre.shape[1]
    kept, work = np.empty(n_latents, pre.dtype), np.empty(n_latents, pre.dtype)
    at = np.empty(n_latents, np.int64)
    cut = -np.inf
    for t in range(low, high):
        row = pre[t]
        n = _passing(row, cut, kept, at)
        if n < k:  # the row before was no guide
            n = _passing(row, -np.inf, kept, at)
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


@fast
@no_type_check
def _number_from(row, cut):
    n = np.float32(0)  # as wide as the entries, so that it counts in vector registers
    for j in range(len(row)):
        n += np.float32(1) if row[j] >= cut else np.float32(0)
    return n


@fast
@no_type_check
def _range(row):
    low = high = row[0]
    for j in range(len(row)):
        low, high = min(low, row[j]), max(high, row[j])
    return low, high


@exact
@no_type_check
def keep(pre, k, low, high):
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


@exact
@no_type_check
def _drop_ties(row, k, cut):
    """Set the last ones of those that equal the cut to 0, so that k are left."""
    n_left = k
    for j in range(len(row)):
        n_left -= row[j] > cut
    for j in range(len(row)):
        if row[j] == cut:
            if n_left <= 0:
                row[j] = 0
            n_left -= 1


@fast
@no_type_check
def residual(decoded, inputs, squared, total, scale, span, low, high):
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


@fast
@no_type_check
def gate(d_acts, acts, total, most, span, low, high):
    zero = acts.dtype.type(0)
    for t in range(low, high):
        d, a, sums, greatest = d_acts[t], acts[t], total[span], most[span]
        for j in range(len(d)):
            d[j] = d[j] if a[j] > zero else zero
            sums[j] += d[j]
            greatest[j] = a[j] if a[j] > greatest[j] else greatest[j]


@fast
@no_type_check
def project(rows, gradient, squares, low, high):
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


@fast
@no_type_check
def count(pre, cut, counts, low, high):
    for t in range(low, high):
        n = 0
        for j in range(pre.shape[1]):
            n += (pre[t, j] >= cut) & (pre[t, j] > 0)
        counts[t] = n


@fast
@no_type_check
def collect(pre, cut, starts, values, indices, low, high):
    for t in range(low, high):
        n = starts[t]
        for j in range(pre.shape[1]):
            if pre[t, j] >= cut and pre[t, j] > 0:
                values[n] = pre[t, j]
                indices[n] = j
                n += 1


@fast
@no_type_check
def decode(starts, values, indices, latents, inputs, gradient, d_values, scale, low, high):
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


@fast
@no_type_check
def transpose(starts, values, indices, d_values, l_starts, l_tokens, l_values, l_d_values):
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


@fast
@no_type_check
def accumulate(starts, tokens, weights, rows, out, low, high):
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
