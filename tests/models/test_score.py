import math
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ghosttrack.errors import DataError
from ghosttrack.models import sharing
from ghosttrack.models.changes import MASK, Change, ChangeKind
from ghosttrack.models.lm import LM
from ghosttrack.models.score import Texts, score, token_statistics, total, work

TOKEN = st.integers(0, 99)
PAIRS = st.lists(
    st.tuples(st.lists(TOKEN, min_size=1, max_size=6), st.lists(TOKEN, max_size=3)), max_size=6
)


def test_statistics_of_a_distribution_worked_out_by_hand():
    # Probabilities 1/2, 1/4, 1/4: entropy (1/2) ln 2 + (1/2) ln 4 = 1.5 ln 2; margin ln 2.
    logits = torch.tensor([[2.0, 1.0, 1.0], [2.0, 1.0, 1.0]]) * math.log(2)
    numbers = token_statistics(logits, torch.tensor([0, 2]))
    expected = [-math.log(2), -math.log(4)]
    torch.testing.assert_close(numbers.logprobs, torch.tensor(expected))
    torch.testing.assert_close(numbers.entropies, torch.full((2,), 1.5 * math.log(2)))
    torch.testing.assert_close(numbers.max_probs, torch.full((2,), 0.5))
    torch.testing.assert_close(numbers.margins, torch.full((2,), math.log(2)))
    assert numbers.is_top.tolist() == [True, False]


def test_a_token_of_no_probability_adds_no_entropy():
    logits = torch.tensor([[0.0, 0.0, -torch.inf]])
    numbers = token_statistics(logits, torch.tensor([2]))
    assert float(numbers.entropies) == pytest.approx(math.log(2))
    assert float(numbers.logprobs) == -math.inf


@settings(max_examples=4)
@given(pairs=PAIRS, batch_tokens=st.integers(1, 40))
def test_scores_are_those_of_full_logits_row_by_row(
    lm: LM, pairs: list[tuple[list[int], list[int]]], batch_tokens: int
):
    with mock.patch.dict(lm.__dict__, batch_tokens=batch_tokens):
        scores = score(lm, [p for p, _ in pairs], [a for _, a in pairs])
    assert len(scores) == len(pairs)
    for (prompt, answer), found in zip(pairs, scores, strict=True):
        with torch.no_grad():
            logits = lm.model(torch.tensor([[*prompt, *answer]])).logits[0]
        expected = [logits[len(prompt) - 1 + j].log_softmax(-1) for j in range(len(answer))]
        for j, row in enumerate(expected):
            top = row.sort(descending=True).values
            np.testing.assert_allclose(found.logprobs[j], row[answer[j]], atol=2e-5)
            np.testing.assert_allclose(found.entropies[j], -(row.exp() * row).sum(), atol=2e-5)
            np.testing.assert_allclose(found.max_probs[j], top[0].exp(), atol=2e-5)
            np.testing.assert_allclose(found.margins[j], top[0] - top[1], atol=2e-5)
        assert len(found.logprobs) == len(answer)
        greedy = [int(row.argmax()) for row in expected]
        assert found.argmax_agrees == (greedy == answer)


@pytest.mark.parametrize(
    ("prompts", "answers", "part", "shapes"),
    [
        pytest.param(
            [[1, 2], [1, 2], [3, 4], [1, 2]], [[5], [5], [5], [6]], "block", [(2, 2)],
            id="equal prompts are read once",
        ),
        pytest.param(
            [[1], [1, 2], [1], [7]], [[9], [5, 6], [2, 8], [3]], "block", [(1, 1), (1, 3)],
            id="[1 2 5] serves what begins with [1 2] and [1]",
        ),
        pytest.param(
            [[1, 2, 3], [1, 2], [1]], [[4], [3, 4], [2]], "block", [(1, 3)],
            id="no pass is padded and none reads an answer's last token",
        ),
        pytest.param(
            [[1, 2, 3, 4, 5], [6, 7, 8, 9]], [[1], [2, 3]], "head", [(3,)],
            id="the head runs at answer positions only",
        ),
    ],
)  # fmt: skip
def test_no_token_is_read_twice_or_for_nothing(gpt2: LM, prompts, answers, part, shapes):
    module = gpt2.parts.head if part == "head" else gpt2.parts.blocks[0]
    ran: list[tuple[int, ...]] = []
    hook = module.register_forward_pre_hook(lambda _, inputs: ran.append(inputs[0].shape[:-1]))
    together = score(gpt2, prompts, answers)
    hook.remove()
    assert sorted(ran) == shapes
    for prompt, answer, found in zip(prompts, answers, together, strict=True):
        (alone,) = score(gpt2, [prompt], [answer])
        np.testing.assert_allclose(found.logprobs, alone.logprobs, atol=1e-5)
        np.testing.assert_allclose(found.entropies, alone.entropies, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "marked", "is_shared"),
    [
        pytest.param(None, (), True, id="nothing changed"),
        pytest.param(MASK, (22,), True, id="a token masked behind the head"),
        pytest.param(MASK, (3,), False, id="a token masked in the head"),
        pytest.param(Change(ChangeKind.noise, 1, 0.5, 7), (21, 22), True, id="noise behind it"),
        pytest.param(Change(ChangeKind.dropout, 1, 0.5, 7), (), False, id="dropout everywhere"),
    ],
)
def test_a_head_that_prompts_share_is_read_once(lm: LM, monkeypatch, change, marked, is_shared):
    prompts = [(*range(40, 60), n, *range(3, 6 + n % 3)) for n in range(18)]
    texts = Texts(prompts, [(7, 8), (9,)], [marked] * len(prompts))
    pairs = np.array([[n, n % 2] for n in range(18)])
    ran: list[tuple[int, ...]] = []
    hook = lm.parts.blocks[0].register_forward_pre_hook(lambda _, x: ran.append(x[0].shape[:2]))
    found = total(lm, texts, pairs, change=change)
    hook.remove()
    assert ((1, 20) in ran) == is_shared == all(n_tokens < 24 for _, n_tokens in ran)
    monkeypatch.setattr(sharing, "LEAST_SAVED", 10**9)
    plain = total(lm, texts, pairs, change=change)
    np.testing.assert_allclose(found.logprobs, plain.logprobs, atol=5e-5)
    np.testing.assert_allclose(found.entropies, plain.entropies, atol=5e-5)
    np.testing.assert_array_equal(found.agrees, plain.agrees)


def test_parts_that_begin_alike_nest(lm: LM, monkeypatch):
    head, words = tuple(range(40, 60)), (tuple(range(30)), tuple(range(60, 95)))
    prompts = [(*head, *words[n % 2], n, 3) for n in range(24)] + [(*head, 7), (5, 6)]
    parts = sharing.read_together(prompts, list(map(len, prompts)), lambda: True)
    of = {row: part.shared for part in parts for row in part.rows}
    expected = [(*head, *words[n % 2]) for n in range(24)] + [head, ()]
    assert [of[row] for row in range(len(prompts))] == expected
    texts = Texts(prompts, [(7, 8), (9,)], [()] * len(prompts))
    pairs = np.array([[n, n % 2] for n in range(len(prompts))])
    nested = total(lm, texts, pairs)
    monkeypatch.setattr(sharing, "LEAST_SAVED", 10**9)
    np.testing.assert_allclose(nested.logprobs, total(lm, texts, pairs).logprobs, atol=5e-5)


@pytest.mark.parametrize(
    ("change", "marked"),
    [
        pytest.param(Change(ChangeKind.noise, 1, 0.5, 7), (1, 2), id="noise"),
        pytest.param(Change(ChangeKind.dropout, scale=0.3, seed=7), (), id="dropout"),
    ],
)
def test_what_is_drawn_for_a_question_does_not_hang_on_the_others(lm: LM, change, marked):
    prompts = [(3, 4, 5), (3, 9, 5), (3, 4, 5, 8), (3, 7, 9)]
    texts, pairs = Texts(prompts, [(7, 8), (8, 2)], [marked] * 4), [[1, 0], [2, 1], [0, 1], [3, 0]]
    together = total(lm, texts, np.array(pairs), change=change).logprobs
    with mock.patch.dict(lm.__dict__, batch_tokens=1):
        one_by_one = total(lm, texts, np.array(pairs), change=change).logprobs
    alone = [total(lm, texts, np.array([pair]), change=change).logprobs[0] for pair in pairs]
    np.testing.assert_allclose(together, alone, atol=2e-5)
    np.testing.assert_allclose(one_by_one, alone, atol=2e-5)
    plain = total(lm, texts, np.array(pairs)).logprobs
    assert (np.abs(plain - together) > 1e-3).all()


def test_all_work_that_is_foretold_is_done(gpt2: LM):
    texts = Texts([(1, 2, 3), (1, 2), (5, 6, 7)], [(4,), (3, 4)], [()] * 3)
    pairs = np.array([[0, 0], [1, 1], [2, 0]])
    done: list[int] = []
    total(gpt2, texts, pairs, read=done.append)
    assert sum(done) == work(gpt2, texts, pairs)


def test_an_answer_that_does_not_fit_is_named(gpt2: LM):
    with pytest.raises(DataError, match=f"{gpt2.n_ctx}"):
        score(gpt2, [[1] * gpt2.n_ctx], [[2, 3]])
