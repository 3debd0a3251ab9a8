import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ghosttrack.data.source import deal


@given(st.integers(0, 30), st.integers(0, 50), st.integers(1, 5), st.integers(0, 9))
def test_ranks_get_every_token_once_in_turn(n_tokens, start, world_size, seed):
    order = np.random.default_rng(seed).permutation(n_tokens)
    deals = [deal(order, start, rank, world_size) for rank in range(world_size)]
    for place, token in enumerate(order):
        one = deals[(start + place) % world_size]
        assert one.ranks[token] == one.rank
        assert one.mine[one.rows[token]] == token
    assert sum(len(one.mine) for one in deals) == n_tokens
