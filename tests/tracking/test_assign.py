import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from ghosttrack.tracking.assign import Edges, assign


def edges_of(gain):
    row, column = np.nonzero(gain > 0)
    return Edges(row, column, gain[row, column])


@st.composite
def problems(draw, largest=7):
    """cost, miss, birth of one layer; small integers now and then, so that ties occur."""
    n_rows, n_columns = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    cost = rng.normal(size=(n_rows, n_columns)) * 3
    miss, birth = rng.exponential(size=n_rows), rng.exponential(size=n_columns)
    if draw(st.booleans()):
        cost, miss, birth = np.round(cost), np.round(miss), np.round(birth)
    return cost, miss, birth


@given(problems())
def test_the_optimum_equals_that_of_the_matrix_padded_with_misses_and_births(problem):
    cost, miss, birth = problem
    n_rows, n_columns = cost.shape
    padded = np.full((n_rows + n_columns, n_columns + n_rows), 1e6)
    padded[:n_rows, :n_columns] = cost
    padded[np.arange(n_rows), n_columns + np.arange(n_rows)] = miss
    padded[n_rows + np.arange(n_columns), np.arange(n_columns)] = birth
    padded[n_rows:, n_columns:] = 0
    edges = edges_of(miss[:, None] + birth - cost)
    chosen = assign(edges, optimal=True)
    track, observation = edges.track[chosen], edges.observation[chosen]
    rest = np.delete(miss, track).sum() + np.delete(birth, observation).sum()
    row, column = linear_sum_assignment(padded)
    total = cost[track, observation].sum() + rest
    np.testing.assert_allclose(total, padded[row, column].sum(), atol=1e-9)


@given(problems(), st.booleans())
def test_no_track_and_no_observation_has_two_links(problem, optimal):
    cost, miss, birth = problem
    edges = edges_of(miss[:, None] + birth - cost)
    chosen = assign(edges, optimal=optimal)
    for end in (edges.track[chosen], edges.observation[chosen]):
        assert len(np.unique(end)) == len(end)


@given(problems())
def test_greedy_takes_the_best_remaining_edge_each_time(problem):
    cost, miss, birth = problem
    gain = miss[:, None] + birth - cost + np.random.default_rng(0).random(cost.shape) * 1e-6
    edges = edges_of(gain)
    expected, rows, columns = set(), set(), set()
    for number in np.argsort(-edges.gain):
        row, column = int(edges.track[number]), int(edges.observation[number])
        if row not in rows and column not in columns:
            expected.add(int(number))
            rows.add(row)
            columns.add(column)
    assert set(np.flatnonzero(assign(edges, optimal=False)).tolist()) == expected


@given(st.lists(problems(largest=5), min_size=2, max_size=4))
@settings(max_examples=40)
def test_problems_solved_together_are_solved_as_well_as_alone(batch):
    gains = [miss[:, None] + birth - cost for cost, miss, birth in batch]
    parts = [edges_of(gain) for gain in gains]
    together = Edges(
        np.concatenate([part.track + 10 * n for n, part in enumerate(parts)]),
        np.concatenate([part.observation + 10 * n for n, part in enumerate(parts)]),
        np.concatenate([part.gain for part in parts]),
    )
    alone = sum(part.gain[assign(part, optimal=True)].sum() for part in parts)
    chosen = assign(together, optimal=True)
    np.testing.assert_allclose(together.gain[chosen].sum(), alone, atol=1e-9)


def test_nothing_to_choose_from_chooses_nothing():
    nothing = np.zeros(0, int)
    assert len(assign(Edges(nothing, nothing, np.zeros(0)), optimal=True)) == 0
