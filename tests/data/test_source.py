from collections import Counter
from itertools import chain, islice
from weakref import WeakSet

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ghosttrack.data.source import ActivationSource


class Numbered:
    """A part whose tokens are their own numbers: unit u's are starts[u], starts[u] + 1, ..."""

    def __init__(self, unit_tokens: list[int]) -> None:
        self.hooks = ["layer_0"]
        self.d_model = 1
        self.unit_tokens = np.array(unit_tokens)
        self.starts = self.unit_tokens.cumsum() - self.unit_tokens
        self.loaded: list[int] = []
        self.alive: WeakSet = WeakSet()
        self.most_alive = 0

    def load(self, units, dealt):
        numbers = np.concatenate(
            [np.arange(self.unit_tokens[unit]) + self.starts[unit] for unit in units]
        )
        self.loaded.append(len(numbers))
        mine = torch.from_numpy(numbers[dealt.mine])

        def tokens(first, last):
            return mine[first:last].float()[None, :, None]

        self.alive.add(tokens)
        self.most_alive = max(self.most_alive, len(self.alive))
        return tokens


def source(
    unit_tokens: list[int], chunk_tokens: int = 20, *, ahead: bool = False
) -> ActivationSource:
    return ActivationSource(Numbered(unit_tokens), Numbered(unit_tokens), chunk_tokens, ahead=ahead)


def numbers(batches, n: int) -> list[list[int]]:
    return [batch[0, :, 0].int().tolist() for batch in islice(batches, n)]


def joined(batches: list[list[int]]) -> list[int]:
    return list(chain.from_iterable(batches))


UNITS = st.lists(st.integers(1, 9), min_size=1, max_size=20)


@settings(max_examples=40)
@given(UNITS, st.integers(1, 40), st.integers(1, 30), st.integers(0, 9))
def test_every_token_comes_once_an_epoch(units, chunk_tokens, batch_size, seed):
    n_tokens = sum(units)
    steps = -(-3 * n_tokens // batch_size)
    drawn = joined(numbers(source(units, chunk_tokens).batches(batch_size, seed), steps))
    for epoch in range(3):
        assert sorted(drawn[epoch * n_tokens : (epoch + 1) * n_tokens]) == list(range(n_tokens))


@settings(max_examples=40)
@given(UNITS, st.integers(1, 40), st.integers(1, 9), st.integers(0, 30), st.integers(0, 9))
def test_a_step_is_the_same_wherever_reading_starts(units, chunk_tokens, batch_size, start, seed):
    whole = numbers(source(units, chunk_tokens).batches(batch_size, seed), start + 4)
    late = source(units, chunk_tokens).batches(batch_size, seed, start_step=start)
    assert numbers(late, 4) == whole[start:]


@settings(max_examples=40)
@given(UNITS, st.integers(1, 40), st.integers(1, 4), st.integers(1, 4), st.integers(0, 9))
def test_ranks_share_out_the_same_global_batch(units, chunk_tokens, rows, world_size, seed):
    batch_size = rows * world_size
    whole = numbers(source(units, chunk_tokens).batches(batch_size, seed), 5)
    for rank in range(world_size):
        mine = source(units, chunk_tokens).batches(batch_size, seed, rank, world_size)
        assert numbers(mine, 5) == [batch[rank::world_size] for batch in whole]


@settings(max_examples=40)
@given(UNITS, st.integers(1, 40), st.integers(1, 4), st.integers(1, 4))
def test_heldout_tokens_come_once_over_all_ranks(units, chunk_tokens, rows, world_size):
    found, lengths = Counter(), set()
    for rank in range(world_size):
        held = source(units, chunk_tokens).heldout_batches(rows * world_size, rank, world_size)
        batches = numbers(held, 1000)
        found.update(joined(batches))
        lengths.add(tuple(map(len, batches)))
    n_tokens = sum(units) - sum(units) % world_size
    assert found == Counter(range(n_tokens))
    assert len(lengths) <= 1


@settings(max_examples=20)
@given(UNITS, st.integers(1, 40), st.integers(1, 3), st.integers(1, 3), st.integers(0, 9))
def test_what_is_made_ahead_is_the_same(units, chunk_tokens, rows, world_size, start):
    sizes = (rows * world_size, 0, world_size - 1, world_size, start)
    now, ahead = (source(units, chunk_tokens, ahead=ahead) for ahead in (False, True))
    assert numbers(ahead.batches(*sizes), 9) == numbers(now.batches(*sizes), 9)
    held = (rows * world_size, world_size - 1, world_size)
    assert numbers(ahead.heldout_batches(*held), 99) == numbers(now.heldout_batches(*held), 99)


@pytest.mark.parametrize(("ahead", "at_hand"), [(False, 1), (True, 2)])
def test_no_more_than_a_chunk_is_at_hand_or_two_with_the_next(ahead, at_hand):
    held = source([5] * 100, chunk_tokens=50, ahead=ahead)
    batches = held.batches(10, seed=0)
    numbers(batches, 100)
    batches.close()
    # 1,000 tokens in 20 chunks; one begins at most a unit early or late
    assert max(held.train.loaded) <= 50 + 5
    assert 20 <= len(held.train.loaded) <= 22
    assert held.train.most_alive == at_hand


def test_seeds_give_other_orders_and_epochs_too():
    first = numbers(source([5] * 20, 100).batches(100, seed=0), 2)
    assert first[0] != first[1]
    assert first[0] != numbers(source([5] * 20, 100).batches(100, seed=1), 1)[0]


def test_tokens_of_a_unit_are_spread_over_the_epoch():
    drawn = numbers(source([10] * 100, chunk_tokens=1000).batches(1000, seed=0), 1)[0]
    places = np.argsort(drawn).reshape(100, 10)
    # ten uniform draws of 1,000 places: mean 500, the mean's deviation 91, the spread's about 290
    assert np.abs(places.mean(1) - 500).max() < 5 * 91
    assert places.std(1).mean() > 200


@pytest.mark.parametrize("n_tokens", [1, 37, 1000])
def test_a_sample_is_of_training_tokens_each_once(n_tokens):
    held = source([7] * 30)
    drawn = held.sample(n_tokens)[0, :, 0].int().tolist()
    assert len(set(drawn)) == len(drawn) == min(n_tokens, 210)
    assert drawn == source([7] * 30).sample(n_tokens)[0, :, 0].int().tolist()
