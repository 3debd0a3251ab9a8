"""Pair tracks with observations: sparse assignment problems, thousands at once.

A track i that is observed as j costs c_ij, a track that is not observed costs miss_i, an
observation that no track explains costs birth_j. The classical form of the problem pads the matrix
with one miss column per track and one birth row per observation, so that misses and births take
part in the optimum. The padding is not needed:

    Give every pairing M (each track and each observation at most once) its cost
        sum of c_ij over (i, j) in M  +  sum of miss_i over tracks not in M
                                      +  sum of birth_j over observations not in M
      = sum of all miss_i  +  sum of all birth_j  -  sum of g_ij over (i, j) in M,
        where g_ij = miss_i + birth_j - c_ij is what the pair gains.
    The first two sums are constants, so the best pairing is the one of greatest total gain. A pair
    with g_ij <= 0 is never needed: leaving it out costs nothing. So the optimum is the pairing of
    greatest total gain among edges with g_ij > 0: what a solver that must fill every row finds on
    the matrix min(c_ij - miss_i - birth_j, 0), pairs of value 0 read as miss and birth.

Edges with positive gain are few, and most of them decide themselves (`_settle`); only what is left
goes to `scipy.optimize.linear_sum_assignment` (Crouse 2016), one block per connected component.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


class Edges(NamedTuple):
    """Pairs that gain against a miss and a birth; a pair stands at most once."""

    track: Int[np.ndarray, "edge"]
    """Row, any non-negative number below the number of tracks of the whole batch."""
    observation: Int[np.ndarray, "edge"]
    """Column, likewise."""
    gain: Float[np.ndarray, "edge"]
    """miss + birth - cost, above 0."""


def assign(edges: Edges, *, optimal: bool) -> Bool[np.ndarray, "edge"]:
    """Choose edges so that no track and no observation has two.

    Samples are solved together: edges of different samples share no row and no column. If
    `optimal`, the greatest total gain is reached; else the best edge is taken first.
    """
    chosen, undecided = _settle(edges, optimal=optimal)
    if len(undecided):
        rest = Edges(*(values[undecided] for values in edges))
        chosen[undecided[_solve(rest)]] = True
    return chosen


def rivals(edges: Edges) -> Float[np.ndarray, "edge"]:
    """The most that other edges at an edge's two ends gain together.

    A pairing without an edge falls short of the best one by at least the edge's gain less this: it
    holds at most one edge at each end, and they can be exchanged for the edge.
    """
    most = np.zeros(len(edges.gain))
    for end in (edges.track, edges.observation) if len(most) else ():
        best, second = _best_two(end, edges.gain)
        is_best = best[end] == np.arange(len(end))
        most += np.where(is_best, second[end], edges.gain[best[end]])
    return most


def _settle(
    edges: Edges, *, optimal: bool
) -> tuple[Bool[np.ndarray, "edge"], Int[np.ndarray, "open"]]:
    """Take edges that are the best of both their ends, round after round.

    With `optimal`, an edge is taken only if it gains at least as much as the second best of its row
    and the second best of its column together. Some optimum then holds it: a pairing without it
    uses at most one other edge at each end, and exchanging these for it loses nothing. Taking
    several at once is sound, for the removal of edges only makes the condition easier.

    Returns:
        The edges taken, and the numbers of those still open (none of them, if not `optimal`).
    """
    chosen = np.zeros(len(edges.gain), bool)
    alive = np.arange(len(edges.gain))
    while len(alive):
        row, column, gain = (values[alive] for values in edges)
        row_best, row_second = _best_two(row, gain)
        column_best, column_second = _best_two(column, gain)
        number = np.arange(len(alive))
        take = (row_best[row] == number) & (column_best[column] == number)
        if optimal:
            take &= gain >= row_second[row] + column_second[column]
        if not take.any():
            break
        chosen[alive[take]] = True
        row_done = np.zeros(len(row_best), bool)
        column_done = np.zeros(len(column_best), bool)
        row_done[row[take]] = True
        column_done[column[take]] = True
        alive = alive[~(row_done[row] | column_done[column])]
    return chosen, alive


def _best_two(
    group: Int[np.ndarray, "edge"], gain: Float[np.ndarray, "edge"]
) -> tuple[Int[np.ndarray, "group"], Float[np.ndarray, "group"]]:
    """The edge of greatest gain in each group (the first of equals), and the next gain or 0."""
    n_groups = int(group.max()) + 1
    top = np.zeros(n_groups)
    np.maximum.at(top, group, gain)
    number = np.flatnonzero(gain == top[group])[::-1]
    best = np.full(n_groups, -1)
    best[group[number]] = number
    others = np.flatnonzero(best[group] != np.arange(len(group)))
    second = np.zeros(n_groups)
    np.maximum.at(second, group[others], gain[others])
    return best, second


def _solve(edges: Edges) -> Int[np.ndarray, "chosen"]:
    """Numbers of the edges of greatest total gain, found block by connected block."""
    row = np.unique(edges.track, return_inverse=True)[1]
    column = np.unique(edges.observation, return_inverse=True)[1]
    n_rows, n_nodes = int(row.max()) + 1, int(row.max()) + int(column.max()) + 2
    graph = coo_array((np.ones(len(row), np.int8), (row, column + n_rows)), (n_nodes, n_nodes))
    component = connected_components(graph, directed=False)[1]
    local_row = _rank_in(component[:n_rows])[row]
    local_column = _rank_in(component[n_rows:])[column]
    order = np.argsort(component[row], kind="stable")
    bounds = np.flatnonzero(np.diff(component[row][order])) + 1
    chosen = []
    for block in np.split(order, bounds):
        rows, columns = local_row[block], local_column[block]
        cost = np.zeros((rows.max() + 1, columns.max() + 1))
        cost[rows, columns] = -edges.gain[block]
        solution = np.full(len(cost), -1)
        matched, where = linear_sum_assignment(cost)
        solution[matched] = where
        chosen.append(block[solution[rows] == columns])
    return np.concatenate(chosen)


def _rank_in(group: Int[np.ndarray, "node"]) -> Int[np.ndarray, "node"]:
    """Number the members of each group from 0, in order."""
    order = np.argsort(group, kind="stable")
    size = np.bincount(group)
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(np.cumsum(size) - size, size)
    return rank
