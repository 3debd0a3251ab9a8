"""What the model says when it is asked more, against passes made by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ghosttrack.detector.answers.answers import Answers, answer
from ghosttrack.detector.answers.self_checks import draw_samples, p_true_table, prior_table
from ghosttrack.models.lm import LM
from ghosttrack.questions.sets import Question, QuestionSet

TEMPLATE = "question : {question} answer :"
ASKED = ("where was anna born ?", "what is the capital of france ?", "who is the king ?")


@pytest.fixture(scope="module")
def questions() -> QuestionSet:
    rows = tuple(
        Question(f"q{at}", TEMPLATE.replace("{question}", text), ("paris",), f"g{at}")
        for at, text in enumerate(ASKED)
    )
    return QuestionSet("test", rows, {}, (".",), 3, {})


@pytest.fixture(scope="module")
def answers(lm, questions) -> Answers:
    return answer(lm, questions)


def logprob(lm: LM, prompt: str, tokens) -> float:
    """Of the tokens after the prompt, one pass per token."""
    ids, total = lm.encode(prompt), 0.0
    for token in tokens:
        row = torch.tensor([ids])
        logits = lm.logits(row, torch.ones_like(row, dtype=torch.bool))[0, -1]
        total += float(logits.log_softmax(-1)[token])
        ids.append(token)
    return total


def test_the_prior_is_the_answer_without_its_question(lm, answers):
    table = prior_table(lm, answers, TEMPLATE)
    for row, tokens in enumerate(answers.token_ids):
        prior = logprob(lm, "question :  answer :", tokens)
        own = logprob(lm, answers.prompts[row], tokens)
        assert table.column("prior_logprob")[row] == pytest.approx(prior, abs=1e-4)
        assert table.column("pmi")[row] == pytest.approx(own - prior, abs=1e-4)
        assert table.column("mean_pmi")[row] == pytest.approx((own - prior) / len(tokens), abs=1e-4)


def test_without_a_token_before_the_answer_there_is_no_prior(lm, answers):
    bare = LM(lm.model, lm.tokenizer, prepend_bos=False, identity={})
    assert prior_table(bare, answers, "{question}") is None
    assert prior_table(lm, answers, "{question}") is not None  # BOS stands before it


def test_p_true_is_the_models_own_verdict_on_the_question_and_its_answer(lm, answers):
    told = replace(answers, texts=("rome", "paris", ""))
    table = p_true_table(lm, told, TEMPLATE, "{question} answer {answer} is it ?")
    for row, text in enumerate(told.texts):
        prompt = f"{ASKED[row]} answer {text} is it ?"
        true, false = (
            np.exp(logprob(lm, prompt, lm.encode(word, prefix=False)))
            for word in (" True", " False")
        )
        assert table.column("p_true")[row] == pytest.approx(true / (true + false), abs=1e-4)


def test_samples_are_drawn_beside_each_answer(lm, questions, answers):
    rows = draw_samples(lm, questions, answers, 50, seed=0)
    assert [row.response for row in rows] == list(answers.texts)
    assert {len(row.samples) for row in rows} == {50}
    for row, tokens in zip(rows, answers.token_ids, strict=True):
        first = lm.decode([tokens[0]]).strip()
        share = np.mean([text.split()[:1] == [first] for text in row.samples])
        # 50 draws of probability p: within four standard deviations, at most 0.29.
        p = np.exp(logprob(lm, row.question, tokens[:1]))
        assert abs(share - p) < 4 * np.sqrt(p * (1 - p) / 50) + 1e-9
    again = draw_samples(lm, questions, answers, 50, seed=0)
    assert again == rows
    assert draw_samples(lm, questions, answers, 50, seed=1) != rows
