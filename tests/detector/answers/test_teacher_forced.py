"""Answers that others wrote: judged by who wrote them to be right, read where they differ."""

from dataclasses import replace

import numpy as np
import pytest

from ghosttrack.detector.answers.answers import Answers, answer
from ghosttrack.detector.answers.teacher_forced import (
    reading_points,
    surface_table,
    written_answers,
)
from ghosttrack.models.lm import LM
from ghosttrack.models.score import score
from ghosttrack.questions.sets import Question, QuestionSet
from tests.support.answers import made_up_answers

N = 40


def asked(end: str = " :") -> QuestionSet:
    questions = tuple(
        Question(
            id=f"q{number}",
            prompt=f"where was anna born ?{end}",
            answers=("in paris", "paris"),
            group=f"g{number}",
            wrong=("in the old city of rome and paris", "rome"),
        )
        for number in range(N)
    )
    return QuestionSet("test", questions, {}, (".",), 4, {}, written=True)


@pytest.fixture(scope="module")
def answers(lm) -> Answers:
    return written_answers(lm, asked(), seed=0)


def test_every_question_has_its_best_right_and_its_likeliest_wrong_answer(answers: Answers):
    by_question: dict[str, set[tuple[str, str, int]]] = {}
    rows = zip(
        answers.question_ids, answers.texts, answers.categories, answers.labels.tolist(),
        strict=True,
    )  # fmt: skip
    for question, *row in rows:
        by_question.setdefault(question, set()).add(tuple(row))
    both = {
        ("in paris", "written_right", 0),
        # The words of the right answer stand in it: nobody compares them.
        ("in the old city of rome and paris", "written_wrong", 1),
    }
    assert list(by_question.values()) == [both] * N
    assert answers.are_written
    assert all(answers.groups[row] == f"g{row // 2}" for row in range(2 * N))


def test_their_order_is_drawn(answers: Answers, lm: LM):
    first = answers.labels[::2]
    assert 0.2 < first.mean() < 0.8
    assert (written_answers(lm, asked(), seed=1).labels[::2] != first).any()


@pytest.mark.parametrize("end", [" :", " : "])
def test_scores_are_those_of_reading_the_answer_after_the_question(lm: LM, end: str):
    read = written_answers(lm, asked(end), seed=0)
    row = int(np.flatnonzero(read.labels == 0)[0])
    whole = lm.encode("where was anna born ? : in paris")
    assert list(read.token_ids[row]) == whole[-2:]
    (forced,) = score(lm, [whole[:-2]], [whole[-2:]])
    assert read.logprobs[row] == pytest.approx(forced.logprobs, abs=1e-5)
    assert read.prob[row] == pytest.approx(np.exp(forced.logprobs.sum()), abs=1e-6)


def test_they_are_read_where_right_and_wrong_differ_and_own_ones_at_the_question(
    lm: LM, answers: Answers
):
    prompts, spoken = reading_points(lm, answers)
    for row, (prompt, ids) in enumerate(zip(prompts, spoken, strict=True)):
        whole = [*lm.encode(answers.prompts[row]), *answers.token_ids[row]]
        assert [*prompt, *ids] == whole
        assert len(ids) == 1
    own = answer(lm, asked())
    assert not own.are_written
    assert reading_points(lm, own) == ([lm.encode(p) for p in own.prompts], list(own.token_ids))


def test_the_surface_is_counted():
    answers = replace(
        made_up_answers(3, 2),
        prompts=("Where is Rome?",) * 3,
        texts=("Rome is not in Iran, 1 of 2.", "", "Rome"),
    )
    table = surface_table(answers)
    row = dict(zip(table.names, table.values[0].tolist(), strict=True))
    # Words: rome is not in iran 1 of 2; of these "rome" and "is" stand in the question.
    assert row == {
        "characters": 28, "words": 8, "mean_word": 19 / 8, "shared_words": 2, "shared_share": 0.25,
        "marks": 2, "capitals": 2, "digits": 2, "denials": 1,
    }  # fmt: skip
    assert table.values[1].tolist() == [0] * len(table.names)
    assert table.column("shared_share")[2] == 1
