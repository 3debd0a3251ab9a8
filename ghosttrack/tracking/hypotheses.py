"""Several hypotheses about all layers of a sample at once.

What one layer decides wrongly, a later one can still put right (Reid 1979; Cox and Hingorani 1996).
A hypothesis is one joint assignment of every observation seen so far. Its total is the log-ratio of
what was seen under it and under births alone, up to a constant of the sample: the gains of its
links, less the cost of every miss that its live tracks could have had. At each layer every
hypothesis is continued by its best pairings, and the best of all continuations are kept.
One place is held for what the hungarian association does, so that the result never falls below it.

The best few pairings come from Murty's partition (Murty 1968): all others than the best one, with
edges e_1 .. e_m, are parted into m sets, of which the t-th keeps e_1 .. e_(t-1) and lacks e_t. Each
is a smaller problem of the same kind, whose best pairing is found likewise; the best of all of them
is the second best pairing, and so on.

Only where something is open does anybody branch: a total that the k-th best is sure to reach bounds
what a continuation may lose, and an edge without which every pairing loses more (`assign.rivals`)
is settled.
"""

import heapq
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int32
from scipy.optimize import linear_sum_assignment

from ghosttrack.tracking.assign import Edges, assign, rivals
from ghosttrack.tracking.trellis import Trellis

ROUNDING = 1e-9
"""Nats by which two ways to add up the same total may differ."""


class _Beam(NamedTuple):
    """Hypotheses about a chunk of samples; the trellis has one row for each, samples ascending."""

    trellis: Trellis
    sample: Int[np.ndarray, "row"]
    total: Float[np.ndarray, "row"]
    is_hungarian: Bool[np.ndarray, "row"]
    predecessor: Int32[np.ndarray, "row layer obs"]
    """As `best_hypothesis` returns it."""


class _Branch(NamedTuple):
    """One way to carry a hypothesis over a layer that is not its best."""

    row: int
    total: float
    links: Int[np.ndarray, "link"]
    """Numbers of the possible links that it makes."""


def best_hypothesis(trellis: Trellis) -> Int32[np.ndarray, "sample layer obs"]:
    """Place in the sample of what each observation continues by the best hypothesis; -1 for none.

    Nothing is linked in the trellis, which is left as it is.
    """
    n_samples, n_slots = trellis.layers[0].latents.shape
    beam = _Beam(
        trellis.at(np.arange(n_samples), first=0),
        np.arange(n_samples),
        np.zeros(n_samples),
        np.ones(n_samples, bool),
        np.full((n_samples, len(trellis.layers), n_slots), -1, np.int32),
    )
    for layer in range(1, len(trellis.layers)):
        beam = _continue(beam, layer)
    order = np.lexsort((-beam.total, beam.sample))
    return beam.predecessor[order[np.searchsorted(beam.sample, np.arange(n_samples))]]


def _continue(beam: _Beam, layer: int) -> _Beam:
    """Carry all hypotheses over a layer and keep the best."""
    trellis, n_slots = beam.trellis, beam.trellis.layers[layer].latents.shape[1]
    possible = trellis.possible(layer)
    possible = possible.at(np.argsort(possible.target // n_slots, kind="stable"))
    row = possible.target // n_slots
    is_best = assign(trellis.edges(possible), optimal=True)
    gained = np.bincount(row[is_best], possible.gain[is_best], len(beam.sample))
    beam = beam._replace(total=beam.total + gained - trellis.missed(layer))
    branches = _branches(beam, trellis.edges(possible), row, is_best)
    # the best pairings of all rows come first, then the branches
    parent = np.append(np.arange(len(beam.sample)), [one.row for one in branches]).astype(int)
    total = np.append(beam.total, [one.total for one in branches])
    is_hungarian = np.append(beam.is_hungarian, np.zeros(len(branches), bool))
    key = np.where(is_hungarian, np.inf, total)
    kept = _greatest(key, beam.sample[parent], trellis.settings.hypotheses)
    place = np.full(len(parent), -1)
    place[kept] = np.arange(len(kept))
    links, new_row = _links(place, branches, row, is_best)
    shift = (new_row - row[links]) * n_slots
    made = possible.at(links)
    made = made._replace(source=made.source + shift, target=made.target + shift)
    trellis = trellis.at(parent[kept], first=layer - 1 - trellis.settings.max_misses)
    trellis.link(layer, made)
    source, target = trellis.places(layer, made)
    predecessor = beam.predecessor[parent[kept]]
    predecessor.reshape(-1)[target.flat] = source.in_sample
    sample = beam.sample[parent[kept]]
    return _Beam(trellis, sample, total[kept], is_hungarian[kept], predecessor)


def _branches(
    beam: _Beam,
    edges: Edges,
    row: Int[np.ndarray, "link"],
    is_best: Bool[np.ndarray, "link"],
) -> list[_Branch]:
    """Find what may be among the k best continuations besides the best one of every hypothesis.

    Totals of the beam are those of the best continuations; edges come by row. `is_best` marks those
    that the best pairing of their row holds.
    """
    n_best = beam.trellis.settings.hypotheses
    if n_best == 1:
        return []
    best = np.flatnonzero(is_best)
    slack = beam.total - _sure_total(beam, edges.gain[best], row[best]) + ROUNDING
    least_loss = np.where(slack[row] >= 0, edges.gain - rivals(edges), np.inf)
    settled = best[least_loss[best] > slack[row[best]]]
    touched = [np.isin(end, end[settled]) for end in (edges.track, edges.observation)]
    open_edges = np.flatnonzero(~touched[0] & ~touched[1])
    bounds = np.flatnonzero(np.diff(row[open_edges])) + 1
    found = []
    for block in np.split(open_edges, bounds) if len(open_edges) else ():
        here = int(row[block[0]])
        fixed = settled[slice(*np.searchsorted(row[settled], [here, here + 1]))]
        parts, matrix = _matrix(edges, block)
        first, *others = best_pairings(matrix, n_best, float(slack[here]))
        for one in others:
            links = np.append(fixed, parts[one.rows, one.columns])
            found.append(_Branch(here, float(beam.total[here]) + one.total - first.total, links))
    return found


def _sure_total(
    beam: _Beam, gain: Float[np.ndarray, "best"], row: Int[np.ndarray, "best"]
) -> Float[np.ndarray, "row"]:
    """What the k-th best continuation of each row's sample reaches at least.

    To leave a single link of a best pairing out is one continuation.
    """
    total = np.append(beam.total, beam.total[row] - gain)
    sample = beam.sample[np.append(np.arange(len(beam.sample)), row)]
    kept = _greatest(total, sample, beam.trellis.settings.hypotheses)
    n_kept = np.bincount(sample[kept], minlength=beam.sample[-1] + 1)
    least = np.full(len(n_kept), np.inf)
    np.minimum.at(least, sample[kept], total[kept])
    return np.where(n_kept < beam.trellis.settings.hypotheses, -np.inf, least)[beam.sample]


def _greatest(
    values: Float[np.ndarray, "item"], group: Int[np.ndarray, "item"], n_most: int
) -> Int[np.ndarray, "kept"]:
    """Numbers of the greatest few values of each group, by group."""
    order = np.lexsort((-values, group))
    start = np.searchsorted(group[order], group[order])
    return order[np.arange(len(order)) - start < n_most]


def _matrix(
    edges: Edges, block: Int[np.ndarray, "edge"]
) -> tuple[Int[np.ndarray, "row column"], Float[np.ndarray, "row column"]]:
    """Lay edges out as a matrix: their numbers and their gains, 0 where there is none."""
    row = np.unique(edges.track[block], return_inverse=True)[1]
    column = np.unique(edges.observation[block], return_inverse=True)[1]
    number = np.full((row.max() + 1, column.max() + 1), -1)
    gain = np.zeros(number.shape)
    number[row, column], gain[row, column] = block, edges.gain[block]
    return number, gain


def _links(
    place: Int[np.ndarray, "continuation"],
    branches: list[_Branch],
    row: Int[np.ndarray, "link"],
    is_best: Bool[np.ndarray, "link"],
) -> tuple[Int[np.ndarray, "made"], Int[np.ndarray, "made"]]:
    """Numbers of the links that the kept continuations make, and whose each is.

    `place` is that of each continuation among the kept, -1 where it is not kept; branches are the
    last of the continuations.
    """
    n_rows = len(place) - len(branches)
    best = np.flatnonzero(is_best & (place[:n_rows][row] >= 0))
    kept = [(one.links, at) for one, at in zip(branches, place[n_rows:], strict=True) if at >= 0]
    links = [best, *(numbers for numbers, _ in kept)]
    owner = [place[row[best]], *(np.full(len(numbers), at) for numbers, at in kept)]
    return np.concatenate(links), np.concatenate(owner)


class Pairing(NamedTuple):
    """Rows with their columns; order as in the solver's answer."""

    total: float
    rows: Int[np.ndarray, "edge"]
    columns: Int[np.ndarray, "edge"]


def best_pairings(
    gain: Float[np.ndarray, "row column"], n_best: int, tolerance: float = np.inf
) -> list[Pairing]:
    """Find the pairings of greatest total gain, best first.

    Args:
        gain: At least 0; 0 where a pair is not allowed, and no pairing holds such a pair.
        n_best: Pairings wanted; fewer are returned where there are no more.
        tolerance: Leave out what gains less than the best by more than this.

    >>> [one.total for one in best_pairings(np.array([[5.0, 4.0], [4.0, 0.0]]), 3)]
    [8.0, 5.0, 4.0]
    """
    first = _solve(gain)
    found, n_made = [], 1
    open_sets = [(-first.total, 0, first, gain, frozenset[tuple[int, int]]())]
    while open_sets and len(found) < n_best:
        _, _, pairing, allowed, held = heapq.heappop(open_sets)
        found.append(pairing)
        allowed = allowed.copy()
        for row, column in zip(pairing.rows.tolist(), pairing.columns.tolist(), strict=True):
            if (row, column) in held:
                continue
            without = allowed.copy()
            without[row, column] = 0.0
            best = _solve(without)
            if best.total >= first.total - tolerance:
                heapq.heappush(open_sets, (-best.total, n_made, best, without, held))
                n_made += 1
            held |= {(row, column)}
            own = allowed[row, column]  # alone in row and column it is in every optimum
            allowed[row], allowed[:, column] = 0.0, 0.0
            allowed[row, column] = own
    return found


def _solve(gain: Float[np.ndarray, "row column"]) -> Pairing:
    rows, columns = linear_sum_assignment(gain, maximize=True)
    gains = gain[rows, columns]
    is_edge = gains > 0
    return Pairing(float(gains.sum()), rows[is_edge], columns[is_edge])
