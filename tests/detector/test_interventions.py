"""Interventions: every number is that of copies scored one by one."""

import itertools

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from ghosttrack.data.questions import Question, QuestionSet
from ghosttrack.detector.answers import answer
from ghosttrack.detector.families import OWNER_SPECS, PARAPHRASE_SPECS, owner, paraphrase
from ghosttrack.detector.interventions import Copy, Family, Finding, intervene
from ghosttrack.detector.spec import StatisticSpec
from ghosttrack.models.lm import LM
from ghosttrack.models.score import score

PERSONS = ("anna", "bert", "carla", "david", "elsa", "frank", "greta")
FAMILIES = (paraphrase(2), owner(3))


@pytest.fixture(scope="module")
def lm(gpt2_folder) -> LM:
    model = AutoModelForCausalLM.from_pretrained(gpt2_folder)
    tokenizer = AutoTokenizer.from_pretrained(gpt2_folder)
    return LM(model, tokenizer, prepend_bos=True, identity={})


def person(name, **fields):
    values = {
        "id": name,
        "prompt": f"where was {name} born ?",
        "answers": ("paris",),
        "group": name,
        "subject": name,
        "kind": "person",
        "wordings": (f"{name} was born in", f"the city of {name} is"),
        "short": "{subject} is a",
    }
    return Question(**(values | fields))


BARE = Question(id="bare", prompt="what is the city ?", answers=("rome",), group="bare")


def question_set(*questions):
    return QuestionSet("test", questions, {"person": PERSONS}, (".",), 3, {})


def test_numbers_are_those_of_copies_scored_one_by_one(lm):
    questions = question_set(*(person(name) for name in PERSONS[:3]))
    answers = answer(lm, questions)
    found = intervene(lm, questions, answers, FAMILIES, seed=0)
    for sample, (question, said) in enumerate(
        zip(questions.questions, answers.token_ids, strict=True)
    ):
        lps = [_lp(lm, text, said) for text in question.wordings]
        assert found.table.column("paraphrase_min")[sample] == pytest.approx(min(lps), abs=1e-4)
        rival = found.rivals[sample]
        gap = _lp(lm, f"{question.subject} is a", said) - _lp(lm, f"{rival} is a", said)
        assert found.gaps[sample] == pytest.approx(gap, abs=1e-4)
        assert rival in PERSONS
        assert rival != question.subject


def _lp(lm, text, said):
    (scores,) = score(lm, [lm.encode(text)], [list(said)])
    return float(scores.logprobs.sum())


def test_agreement_counts_the_wordings_that_greedily_lead_to_the_same_answer(lm):
    question = person("anna", wordings=("where was anna born ?", "bert", "carla was", "the red"))
    questions = question_set(question)
    answers = answer(lm, questions)
    found = intervene(lm, questions, answers, [paraphrase(4)], seed=0)
    again = answer(
        lm, question_set(*(person(str(i), prompt=t) for i, t in enumerate(question.wordings)))
    )
    n_tokens = len(answers.token_ids[0])
    same = [said[:n_tokens] == answers.token_ids[0] for said in again.token_ids]
    assert same[0]
    assert found.table.column("paraphrase_agree").tolist() == [np.mean(same)]


def test_a_question_is_not_moved_by_the_others_or_their_order(lm):
    all_questions = question_set(*(person(name) for name in PERSONS))
    some = question_set(person("elsa"), person("anna"))
    one = intervene(lm, all_questions, answer(lm, all_questions), FAMILIES, seed=3)
    two = intervene(lm, some, answer(lm, some), FAMILIES, seed=3)
    rows = [PERSONS.index("elsa"), PERSONS.index("anna")]
    assert two.table.values == pytest.approx(one.table.values[rows], abs=1e-4)
    assert two.rivals == tuple(one.rivals[row] for row in rows)


def test_another_seed_asks_about_other_names(lm):
    questions = question_set(*(person(name) for name in PERSONS))
    answers = answer(lm, questions)
    tables = [intervene(lm, questions, answers, [owner(2)], seed=seed).table for seed in (0, 1)]
    assert not np.allclose(tables[0].values, tables[1].values)


def test_a_question_without_subject_or_wordings_has_no_numbers_and_no_rival(lm):
    questions = question_set(BARE, person("anna"))
    found = intervene(lm, questions, answer(lm, questions), FAMILIES, seed=0)
    assert np.isnan(found.table.values[0]).all()
    assert np.isfinite(found.table.values[1]).all()
    assert found.rivals[0] == ""
    assert np.isnan(found.gaps[0])


def test_a_family_that_no_question_can_have_is_left_out_and_named(lm):
    questions = question_set(BARE, person("anna", subject="", short="", wordings=("anna is",)))
    found = intervene(lm, questions, answer(lm, questions), FAMILIES, seed=0)
    assert found.left_out == ("owner",)
    assert found.table.names == tuple(spec.name for spec in PARAPHRASE_SPECS)
    assert np.isnan(found.gaps).all()
    questions = question_set(BARE)
    found = intervene(lm, questions, answer(lm, questions), FAMILIES, seed=0)
    assert found.left_out == ("paraphrase", "owner")
    assert found.table.values.shape == (1, 0)
    assert found.forwards == {}


def test_forwards_count_the_copies_per_answer(lm):
    questions = question_set(BARE, person("anna"))
    found = intervene(lm, questions, answer(lm, questions), FAMILIES, seed=0)
    # One of two answers has 2 wordings, and its own name beside 3 others.
    assert found.forwards == {"paraphrase": 1.0, "owner": 2.0}
    assert set(found.seconds) == {"paraphrase", "owner"}
    assert all(seconds > 0 for seconds in found.seconds.values())


def test_another_family_needs_nothing_but_its_own_copies_and_numbers(lm):
    spec = StatisticSpec("shout_lp", "shout", "lp after the word yes", -np.inf, 0.0, 0)
    shout = Family(
        "shout",
        (spec,),
        lambda question, _, __: (Copy(f"yes {question.prompt}", question.subject),),
        lambda _, echo: Finding((float(echo.logprobs[0]),)),
    )
    questions = question_set(BARE, person("anna"))
    answers = answer(lm, questions)
    found = intervene(lm, questions, answers, (*FAMILIES, shout), seed=0)
    expected = [
        _lp(lm, f"yes {prompt}", said)
        for prompt, said in zip(answers.prompts, answers.token_ids, strict=True)
    ]
    assert found.table.column("shout_lp") == pytest.approx(expected, abs=1e-4)


def test_every_column_stays_in_its_stated_range(lm):
    questions = question_set(*(person(name) for name in PERSONS))
    found = intervene(lm, questions, answer(lm, questions), FAMILIES, seed=0)
    specs = list(itertools.chain(PARAPHRASE_SPECS, OWNER_SPECS))
    assert found.table.names == tuple(spec.name for spec in specs)
    for spec, column in zip(specs, found.table.values.T, strict=True):
        assert (column >= spec.low).all(), spec.name
        assert (column <= spec.high).all(), spec.name
