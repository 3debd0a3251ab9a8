"""What the model says when it is asked more, against passes made by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ghosttrack.data.progress import Meter
from ghosttrack.detector.answers.answers import Answers, answer
from ghosttrack.detector.answers.self_checks import (
    confidence_table,
    draw_samples,
    eigenscore,
    eigenscore_table,
    p_true_table,
    prior_table,
    reverse_table,
)
from ghosttrack.models.generate import GenerateSettings, generate
from ghosttrack.models.lm import LM
from ghosttrack.questions.sets import Question, QuestionSet

TEMPLATE = "question : {question} answer :"
LINES = "question : {question}\nanswer :"
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


def test_the_reverse_is_the_question_after_its_answer_and_after_none(lm, answers):
    table = reverse_table(lm, answers, "question : where ?\nanswer : rome\n\n" + LINES)
    shown = "answer : rome\nquestion : where ?\n\nanswer : {}\nquestion :"
    for row, (asked, text) in enumerate(zip(answers.asked, answers.texts, strict=True)):
        tokens = lm.encode(f" {asked}", prefix=False)
        after, alone = (logprob(lm, shown.format(said), tokens) for said in (text, ""))
        assert table.column("reverse_pmi")[row] == pytest.approx(after - alone, abs=1e-4)
    assert abs(table.values).max() > 0.01


@pytest.mark.parametrize(
    "template",
    ["{question}", TEMPLATE, "<user>\n{question}<end>\n<model>\n", f"who ?\n\n{LINES}"],
)
def test_only_a_line_with_the_question_and_one_with_the_answer_are_turned_around(
    lm, answers, template
):
    assert reverse_table(lm, answers, template) is None


def test_p_true_is_the_models_own_verdict_on_the_question_and_its_answer(lm, answers, monkeypatch):
    told, meters = replace(answers, texts=("rome", "paris", "")), []
    monkeypatch.setattr(
        "ghosttrack.detector.answers.self_checks.Meter",
        lambda *said: meters.append(Meter(*said)) or meters[-1],
    )
    table = p_true_table(lm, told, TEMPLATE, "{question} answer {answer} is it ?")
    for row, text in enumerate(told.texts):
        prompt = f"{ASKED[row]} answer {text} is it ?"
        true, false = (
            np.exp(logprob(lm, prompt, lm.encode(word, prefix=False)))
            for word in (" True", " False")
        )
        assert table.column("p_true")[row] == pytest.approx(true / (true + false), abs=1e-4)
    assert meters[0].done == meters[0].total > 0


def test_samples_are_drawn_beside_each_answer(lm, questions, answers):
    drawn = draw_samples(lm, questions, answers, 50, seed=0)
    rows = drawn.rows
    assert len(drawn.texts) == 3 * 50
    assert [row.response for row in rows] == list(answers.texts)
    assert {len(row.samples) for row in rows} == {50}
    for row, tokens in zip(rows, answers.token_ids, strict=True):
        first = lm.decode([tokens[0]]).strip()
        share = np.mean([text.split()[:1] == [first] for text in row.samples])
        # 50 draws of probability p: within four standard deviations, at most 0.29.
        p = np.exp(logprob(lm, row.question, tokens[:1]))
        assert abs(share - p) < 4 * np.sqrt(p * (1 - p) / 50) + 1e-9
    again = draw_samples(lm, questions, answers, 50, seed=0)
    assert again == drawn
    assert draw_samples(lm, questions, answers, 50, seed=1) != drawn


def test_a_verbalised_confidence_is_the_number_that_the_model_writes(lm, answers, monkeypatch):
    asking = "{question} answer {answer} how likely ?"
    told = replace(answers, texts=("rome", "paris", ""))
    prompts = [lm.encode(f"{ASKED[row]} answer {text} how likely ?")
               for row, text in enumerate(told.texts)]  # fmt: skip
    said = generate(lm, prompts, GenerateSettings(6, ("\n",)))
    assert np.isnan(confidence_table(lm, told, TEMPLATE, asking).values).all()  # words, no number

    def numbers(_lm, asked, settings, _advance):
        assert asked == prompts
        texts = ("90%", "about 0.25", "no idea")
        return [one._replace(text=text) for one, text in zip(said, texts, strict=True)]

    monkeypatch.setattr("ghosttrack.detector.answers.self_checks.generate", numbers)
    found = confidence_table(lm, told, TEMPLATE, asking).column("verbalised")
    np.testing.assert_array_equal(found, [0.9, 0.25, np.nan])


def test_eigenscore_is_the_log_determinant_of_samples_at_the_middle_layer(lm, questions, answers):
    texts = draw_samples(lm, questions, answers, 4, seed=0).texts
    table = eigenscore_table(lm, texts, 4)
    for row in range(3):
        states = []
        for text in texts[4 * row : 4 * row + 4]:
            ids = torch.tensor([text])
            stream = lm.residuals(ids, torch.ones_like(ids, dtype=torch.bool), [1])
            states.append(stream[0, 0, -1].double().numpy())
        z = np.array(states)
        centring = np.eye(z.shape[1]) - 1 / z.shape[1]
        _, logdet = np.linalg.slogdet(z @ centring @ z.T + 1e-3 * np.eye(4))
        assert table.column("eigenscore")[row] == pytest.approx(logdet / 4, abs=1e-3)
    alike = np.ones((4, 1)) * np.arange(8.0)
    assert eigenscore(alike) < eigenscore(alike + np.random.default_rng(0).normal(size=(4, 8)))
