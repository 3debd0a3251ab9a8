import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ghosttrack.tracking.hypotheses import best_pairings


def all_totals(gain):
    """Totals of every pairing of pairs above 0, greatest first."""
    pairs = list(zip(*np.nonzero(gain), strict=True))
    totals = []
    for size in range(len(pairs) + 1):
        for chosen in itertools.combinations(pairs, size):
            rows, columns = {row for row, _ in chosen}, {column for _, column in chosen}
            if len(rows) == len(columns) == size:
                totals.append(sum(gain[pair] for pair in chosen))
    return sorted(totals, reverse=True)


CASES = st.tuples(st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 4))


def gains(seed, n_rows, n_columns):
    rng = np.random.default_rng(seed)
    return rng.exponential(size=(n_rows, n_columns)) * (rng.random((n_rows, n_columns)) < 0.6)


@given(CASES, st.integers(1, 60))
@settings(max_examples=50)
def test_the_best_pairings_are_those_of_a_full_enumeration(case, n_best):
    gain = gains(*case)
    found = best_pairings(gain, n_best)
    expected = all_totals(gain)[:n_best]
    np.testing.assert_allclose([one.total for one in found], expected, atol=1e-12)
    for one in found:
        np.testing.assert_allclose(gain[one.rows, one.columns].sum(), one.total)
        assert len(set(one.rows)) == len(set(one.columns)) == len(one.rows)
    assert len({frozenset(zip(one.rows, one.columns, strict=True)) for one in found}) == len(found)


@given(CASES, st.floats(0, 3))
@settings(max_examples=50)
def test_a_tolerance_leaves_out_what_gains_too_little_and_no_more(case, tolerance):
    gain = gains(*case)
    totals = all_totals(gain)
    wanted = [total for total in totals if total >= totals[0] - tolerance - 1e-12]
    found = [one.total for one in best_pairings(gain, 1000, tolerance)]
    np.testing.assert_allclose(found, wanted, atol=1e-12)
