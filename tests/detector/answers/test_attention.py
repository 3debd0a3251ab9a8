"""RAUQ and lookback ratios against loops over the model's own attention weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ghosttrack.detector.answers.answers import Answers, answer
from ghosttrack.detector.answers.attention import RAUQ_SPECS, attention_tables, rauq
from ghosttrack.detector.table import Table
from ghosttrack.models import sharing
from ghosttrack.models.lm import LM
from ghosttrack.questions.sets import Question, QuestionSet
from tests.detector.scenes import keeps_ranges

ASKED = ("where was anna born ?", "what is the capital of france ?", "who is the king ?")


@pytest.fixture(scope="module")
def answers(lm: LM) -> Answers:
    rows = tuple(Question(f"q{at}", text, ("x",), f"g{at}") for at, text in enumerate(ASKED))
    return answer(lm, QuestionSet("test", rows, {}, (".",), 4, {}))


@pytest.fixture(scope="module")
def tables(lm: LM, answers: Answers) -> dict[str, Table]:
    return attention_tables(lm, answers)


def weights(lm: LM, answers: Answers, row: int) -> tuple[np.ndarray, int]:
    """[layer head query key] of one answer after its prompt, and the prompt's length."""
    prompt = lm.encode(answers.prompts[row])
    ids = torch.tensor([[*prompt, *answers.token_ids[row]]])
    return torch.stack(lm.attention(ids))[:, 0].numpy(), len(prompt)


def test_rauq_is_that_of_its_equations(lm, answers, tables):
    for row, logprobs in enumerate(answers.logprobs):
        attention, n_prompt = weights(lm, answers, row)
        worst = -np.inf
        for layer in (1, 2):  # the middle third of three: 3 // 3 up to 2 * 3 / 3
            last = [
                [head[n_prompt + i, n_prompt + i - 1] for i in range(1, len(logprobs))]
                for head in attention[layer]
            ]
            chosen = max(last, key=np.mean) if len(logprobs) > 1 else []
            confidence = [np.exp(logprobs[0])]
            for weight, logprob in zip(chosen, logprobs[1:], strict=True):
                confidence.append(0.2 * np.exp(logprob) + 0.8 * weight * confidence[-1])
            worst = max(worst, -np.mean(np.log(confidence)))
        assert tables["rauq"].column("rauq")[row] == pytest.approx(worst, rel=1e-4)
    keeps_ranges(tables["rauq"], RAUQ_SPECS)


def test_a_lookback_ratio_compares_means_over_prompt_and_answer(lm, answers, tables):
    row = int(np.argmax([len(ids) for ids in answers.token_ids]))
    attention, n = weights(lm, answers, row)
    ratios = []
    for query in range(n, attention.shape[-1]):
        before, said = attention[2, 1, query, :n], attention[2, 1, query, n : query + 1]
        ratios.append(before.mean() / (before.mean() + said.mean()))
    assert len(ratios) > 1
    assert tables["lookback"].column("lookback/2/1")[row] == pytest.approx(
        np.mean(ratios), abs=1e-5
    )
    assert len(tables["lookback"].names) == 3 * 4


def test_a_single_token_answer_has_no_one_to_look_back_on():
    assert rauq(np.zeros((3, 2, 0)), np.log([0.25])) == pytest.approx(np.log(4))


def test_a_model_that_tells_no_weights_leaves_no_table(lm, answers, monkeypatch):
    monkeypatch.setattr(LM, "attention", lambda *_: [])
    assert attention_tables(lm, answers) == {}


def test_what_all_prompts_begin_with_is_read_once(lm, answers, tables, monkeypatch):
    """The same numbers from fewer tokens."""
    head = "the king was born in france . " * 6
    longer = replace(answers, prompts=tuple(head + prompt for prompt in answers.prompts))
    monkeypatch.setattr(sharing, "LEAST_SAVED", 1)
    lengths, attention = [], LM.attention

    def counted(self, ids, past=None):
        lengths.append(ids.shape[1])
        return attention(self, ids, past)

    monkeypatch.setattr(LM, "attention", counted)
    shared = attention_tables(lm, longer)
    monkeypatch.setattr(sharing, "LEAST_SAVED", 10**9)
    n_shared, alone = len(lengths), attention_tables(lm, longer)
    assert max(lengths[:n_shared]) < min(lengths[n_shared:]) - 30
    for name in ("rauq", "lookback"):
        np.testing.assert_allclose(shared[name].values, alone[name].values, rtol=1e-4)
        assert not np.allclose(alone[name].values, tables[name].values)
