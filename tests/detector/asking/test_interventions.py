"""Interventions: every number is that of copies scored one by one."""

from dataclasses import replace

import numpy as np
import pytest

from ghosttrack.detector.answers.answers import answer
from ghosttrack.detector.asking.families import ablate, owner, paraphrase, siblings
from ghosttrack.detector.asking.family import Copy, Finding, Rescoring
from ghosttrack.detector.asking.interventions import intervene
from ghosttrack.detector.asking.roster import ROSTER, intervention_specs, requested
from ghosttrack.detector.table import StatisticSpec
from ghosttrack.models.changes import MASK
from ghosttrack.models.readings import find_subject
from ghosttrack.models.score import Texts, score, total
from ghosttrack.questions.sets import Question, QuestionSet
from tests.detector.scenes import keeps_ranges

PERSONS = ("anna", "bert", "carla", "david", "elsa", "frank", "greta")
PARAPHRASE, OWNER = paraphrase.FAMILY, owner.FAMILY
ASKED = {PARAPHRASE: 2, OWNER: 3}


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


def ask(lm, questions, families=ASKED, seed=0, answers=None, *, siblings_again=False):
    """Ask again about the model's own answers, or others."""
    answers = answers or answer(lm, questions)
    return intervene(lm, questions, answers, families, seed, siblings_again=siblings_again)


def question_set(*questions):
    return QuestionSet("test", questions, {"person": PERSONS}, (".",), 3, {})


def test_numbers_are_those_of_copies_scored_one_by_one(lm):
    questions = question_set(*(person(name) for name in PERSONS[:3]))
    answers = answer(lm, questions)
    found = ask(lm, questions, answers=answers)
    for sample, (question, said) in enumerate(
        zip(questions.questions, answers.token_ids, strict=True)
    ):
        lps = [_lp(lm, text, said) for text in question.wordings]
        assert found.tables["paraphrase"].column("paraphrase_min")[sample] == pytest.approx(
            min(lps), abs=1e-4
        )
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
    found = ask(lm, questions, {PARAPHRASE: 4}, answers=answers)
    again = answer(
        lm, question_set(*(person(str(i), prompt=t) for i, t in enumerate(question.wordings)))
    )
    n_tokens = len(answers.token_ids[0])
    same = [said[:n_tokens] == answers.token_ids[0] for said in again.token_ids]
    assert same[0]
    assert found.tables["paraphrase"].column("paraphrase_agree").tolist() == [np.mean(same)]


def test_a_question_is_not_moved_by_the_others_or_their_order(lm):
    all_questions = question_set(*(person(name) for name in PERSONS))
    some = question_set(person("elsa"), person("anna"))
    one, two = (ask(lm, asked, seed=3) for asked in (all_questions, some))
    rows = [PERSONS.index("elsa"), PERSONS.index("anna")]
    for name, table in two.tables.items():
        assert table.values == pytest.approx(one.tables[name].values[rows], abs=1e-4, nan_ok=True)
    assert two.rivals == tuple(one.rivals[row] for row in rows)


def test_another_seed_asks_about_other_names(lm):
    questions = question_set(*(person(name) for name in PERSONS))
    tables = [ask(lm, questions, {OWNER: 2}, seed).tables["owner"] for seed in (0, 1)]
    assert not np.allclose(tables[0].values, tables[1].values)


def test_a_question_without_subject_or_wordings_has_no_numbers_and_no_rival(lm):
    questions = question_set(BARE, person("anna"))
    found = ask(lm, questions)
    for table in found.tables.values():
        assert np.isnan(table.values[0]).all()
        assert np.isfinite(table.values[1]).all()
    assert found.rivals[0] == ""
    assert np.isnan(found.gaps[0])


def test_a_family_that_no_question_can_have_is_left_out_and_named(lm):
    questions = question_set(BARE, person("anna", subject="", short="", wordings=("anna is",)))
    found = ask(lm, questions)
    assert found.left_out == ("owner",)
    assert found.tables["paraphrase"].names == tuple(spec.name for spec in PARAPHRASE.specs)
    assert np.isnan(found.gaps).all()
    questions = question_set(BARE)
    found = ask(lm, questions)
    assert found.left_out == ("paraphrase", "owner")
    assert found.tables == {}
    assert found.forwards == {}


def test_forwards_count_the_copies_per_answer(lm):
    questions = question_set(BARE, person("anna"))
    found = ask(lm, questions)
    # One of two answers has 2 wordings, and its own name beside 3 others.
    assert found.forwards == {"paraphrase": 1.0, "owner": 2.0}
    assert set(found.seconds) == {"paraphrase", "owner"}
    assert all(seconds > 0 for seconds in found.seconds.values())


def test_another_family_needs_nothing_but_its_own_copies_and_numbers(lm):
    spec = StatisticSpec("shout_lp", "shout", "lp after the word yes", -np.inf, 0.0, 0)
    shout = Rescoring(
        *("shout", 1, 1, "nothing", (spec,)),
        lambda question, _, __: (Copy(f"yes {question.prompt}", question.subject),),
        lambda echo: Finding((float(echo.logprobs[0]),)),
    )
    questions = question_set(BARE, person("anna"))
    answers = answer(lm, questions)
    found = ask(lm, questions, {**ASKED, shout: 1}, answers=answers)
    expected = [
        _lp(lm, f"yes {prompt}", said)
        for prompt, said in zip(answers.prompts, answers.token_ids, strict=True)
    ]
    assert found.tables["shout"].column("shout_lp") == pytest.approx(expected, abs=1e-4)


def test_every_column_stays_in_its_stated_range(lm):
    relations = {"birthplace": "{subject} is a", "city": "the city of {subject} is"}
    names = tuple(f"{name} {other}" for name in PERSONS[:4] for other in PERSONS[4:])
    questions = question_set(
        *(
            person(f"{name} {other}", id=f"{name}/{relation}", relation=relation, short=short)
            for name, other in (name.split() for name in names[:5])
            for relation, short in relations.items()
        )
    )
    questions = replace(questions, names={"person": names})
    copies = {family.name: min(family.default, 2) for family in ROSTER}
    found = ask(lm, questions, requested(copies), siblings_again=True)
    assert list(found.tables) == [
        *("paraphrase", "swap", "owner", "ablate", "noise_subject", "noise_all"),
        *("dropout", "siblings"),
    ]
    first, *others = found.tables.values()
    whole = first.concat(*others)
    assert set(whole.names) == {spec.name for spec in intervention_specs()}
    keeps_ranges(whole, intervention_specs(), slack=1e-6)


def test_siblings_are_answered_once_for_all_questions_about_a_subject(lm):
    relations = {"born": "{subject} is a", "city": "the city of {subject} is"}
    asked = [
        person(name, id=f"{name}/{relation}", relation=relation, short=short)
        for name in PERSONS[:2]
        for relation, short in relations.items()
    ]
    questions = question_set(*asked)
    answers = answer(lm, questions)
    found = ask(lm, questions, {OWNER: 2, siblings.FAMILY: 3}, answers=answers, siblings_again=True)
    table = found.tables["siblings"]
    # The sibling of anna/born is anna/city, asked in its short statement, and the other way round.
    said = answer(lm, question_set(person("x", prompt="the city of anna is")))
    assert table.column("sibling_lp")[0] == pytest.approx(np.log(said.prob[0]), abs=1e-4)
    city = person("anna", id="person/anna/city", relation="city", short=relations["city"])
    again = replace(said, question_ids=(city.id,))
    alone = ask(lm, question_set(city), {OWNER: 2}, answers=again)
    gap = alone.tables["owner"].column("owner_gap")[0]
    assert table.column("sibling_owner_gap")[0] == pytest.approx(gap, abs=1e-4)
    n_tokens = len(said.token_ids[0])
    shared = ask(lm, questions, {siblings.FAMILY: 3}, answers=answers.take(np.array([0, 0])))
    assert shared.forwards == {"siblings": n_tokens / 2}


def test_without_relations_there_are_no_siblings(lm):
    questions = question_set(person("anna"), BARE)
    found = ask(lm, questions, {siblings.FAMILY: 3})
    assert found.left_out == ("siblings",)
    assert found.tables == {}


def test_an_ablated_subject_is_read_with_the_mean_embedding(lm):
    questions = question_set(person("anna"))
    answers = answer(lm, questions)
    found = ask(lm, questions, {ablate.FAMILY: 3}, answers=answers)
    prompt = tuple(lm.encode(answers.prompts[0]))
    where = tuple(np.flatnonzero(find_subject(lm, prompt, "anna")).tolist())
    assert where
    totals = [
        total(
            lm, Texts([prompt], [answers.token_ids[0]], [where]), np.array([[0, 0]]), change=change
        )
        for change in (None, MASK)
    ]
    drop = float(totals[0].logprobs[0] - totals[1].logprobs[0])
    assert abs(drop) > 1e-3
    assert found.tables["ablate"].column("ablate_drop")[0] == pytest.approx(drop, abs=1e-4)
