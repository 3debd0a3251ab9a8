import logging
from dataclasses import replace

import numpy as np
import pytest

from ghosttrack.detector.answers.answers import answer
from ghosttrack.detector.asking import subjects
from ghosttrack.detector.asking.families import owner
from ghosttrack.detector.asking.interventions import intervene
from ghosttrack.models.changes import MASK
from ghosttrack.models.readings import find_subject
from ghosttrack.models.score import Texts, total
from ghosttrack.questions.sets import Question, QuestionSet
from ghosttrack.questions.spans import bare_text, candidate_spans, rarity_of

NAMES = ("anna", "bert", "carla", "david")


@pytest.fixture
def bare():
    """Questions without annotation."""
    asked = [Question(one, f"where was {one} born ?", ("paris",), one) for one in NAMES]
    return QuestionSet("test", tuple(asked), {}, (".",), 3, {})


def test_the_span_whose_masking_costs_the_answer_most_is_found(lm, bare):
    answers = answer(lm, bare)
    named = subjects.with_span_names(bare, lm)
    found = subjects.find_subjects(lm, named, answers)
    rarity = rarity_of(map(bare_text, bare.questions), lm.tokenizer)
    passes = []
    for row, question in enumerate(found.questions.questions):
        spans = [one.text for one in candidate_spans(question.prompt, rarity)]
        ids = tuple(lm.encode(question.prompt))
        marks = [tuple(np.flatnonzero(find_subject(lm, ids, one)).tolist()) for one in spans]
        texts = Texts([ids] * len(spans), [answers.token_ids[row]], marks)
        pairs = np.array([[n, 0] for n in range(len(spans))])
        lp = total(lm, texts, pairs, change=MASK).logprobs
        assert question.subject == spans[int(lp.argmin())]
        assert question.subject in named.names[question.kind]
        passes.append(len(spans) + 1)
    assert found.forwards == np.mean(passes)


def test_the_owner_test_works_without_annotation(lm, bare):
    answers = answer(lm, bare)
    without = intervene(lm, bare, answers, {owner.FAMILY: 3}, 0, siblings_again=False)
    assert without.left_out == ("owner",)
    found = subjects.find_subjects(lm, subjects.with_span_names(bare, lm), answers).questions
    asked = intervene(lm, found, answers, {owner.FAMILY: 3}, 0, siblings_again=False)
    assert np.isfinite(asked.gaps).all()
    assert all(asked.rivals)


def test_agreement_with_what_a_set_gives_is_said(lm, bare, caplog):
    given = [replace(one, subject=one.id) for one in bare.questions]
    answers = answer(lm, bare)
    named = subjects.with_span_names(replace(bare, questions=tuple(given)), lm)
    with caplog.at_level(logging.INFO):
        found = subjects.find_subjects(lm, named, answers)
    pairs = zip(found.questions.questions, NAMES, strict=True)
    same = sum(one.subject == name for one, name in pairs)
    assert f"of 4 subjects that the set gives, {same} are found" in caplog.text
