"""The training recipe."""

import math
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ghosttrack.errors import ConfigError
from ghosttrack.models.lm import LM
from ghosttrack.world.facts import Recipe, WorldSpec
from ghosttrack.world.measure import accuracy, ask
from ghosttrack.world.questions import question_set
from ghosttrack.world.recipe import Progress, batch_by_length, train, weighted_loss
from ghosttrack.world.text import make_tokenizer

TINY = WorldSpec(seed=5, head=12, mid=0, rare=0, unseen=12, head_exposure=60, n_values=12)


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1), st.integers(1, 20)
)
def test_every_row_is_in_one_batch_of_its_length(rows: list[list[int]], most: int) -> None:
    batches = batch_by_length(rows, most, Random(0))
    together = [row for batch in batches for row in batch.tolist()]
    assert sorted(together) == sorted(rows)
    for batch in batches:
        assert batch.numel() <= max(most, batch.shape[1])


def test_light_tokens_count_less_in_the_loss() -> None:
    # Two targets with probability 1/2 and 1/4; the second weighs 0.1:
    # (log 2 + 0.1 log 4) / 1.1
    logits = torch.tensor([[[0.5, 0.5, 1e-9], [0.5, 0.25, 0.25]]]).log()
    loss = weighted_loss(logits, torch.tensor([[0, 1]]), torch.tensor([1.0, 0.1, 1.0]))
    assert loss.item() == pytest.approx((math.log(2) + 0.1 * math.log(4)) / 1.1, rel=1e-6)


@pytest.mark.slow
def test_the_recipe_learns_what_it_is_told_and_nothing_else() -> None:
    seen: list[Progress] = []
    model = train(TINY, Recipe(n_layers=2, d_model=64, batch_tokens=128), seen.append)
    lm = LM(model, make_tokenizer(TINY), prepend_bos=True, identity={})
    known = accuracy(ask(lm, question_set(TINY, 96, seed=0)))
    assert known.head >= 0.9
    assert known.unseen <= 0.2  # of 12 answers, one in ten is right by chance
    assert [progress.step for progress in seen] == list(range(1, seen[0].n_steps + 1))
    assert seen[-1].loss < seen[0].loss / 3


@pytest.mark.slow
def test_the_same_spec_trains_the_same_model() -> None:
    spec = WorldSpec(seed=5, head=3, mid=0, rare=0, unseen=3, head_exposure=20, n_values=6)
    recipe = Recipe(n_layers=1, d_model=32)
    first, second = (train(spec, recipe, [].append) for _ in range(2))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert isinstance(a, nn.Parameter)
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)  # threads may sum in another order


def test_a_width_that_heads_cannot_share_is_named() -> None:
    with pytest.raises(ConfigError, match="d_model must be a multiple of 4, got 30"):
        Recipe(d_model=30)
