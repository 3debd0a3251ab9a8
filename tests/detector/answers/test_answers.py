"""Answers: the model's own words, judged, scored and kept."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ghosttrack.detector.answers.answers import Answers, answer
from ghosttrack.errors import DataError
from ghosttrack.models.score import score
from ghosttrack.questions.sets import Question, QuestionSet

PROMPTS = ("where was anna born ?", "what is the capital of france ?", "bert lives in", "the king")


def question_set(prompts=PROMPTS, stop=(".",), answers=("paris",), status="", **fields):
    questions = tuple(
        Question(
            id=f"q{i}", prompt=text, answers=answers, group=f"g{i % 3}", status=status, exposure=i
        )
        for i, text in enumerate(prompts)
    )
    values = {"name": "test", "questions": questions, "names": {}, "stop": stop} | fields
    return QuestionSet(**values, max_new_tokens=4, identity={})


def same(left: Answers, right: Answers) -> bool:
    return all(
        np.array_equal(a, b)
        if isinstance(a, np.ndarray)
        else (a.names == b.names and np.array_equal(a.values, b.values))
        if hasattr(a, "names")
        else a == b
        for a, b in (
            (getattr(left, f.name), getattr(right, f.name)) for f in dataclasses.fields(Answers)
        )
    )


def test_each_answer_is_what_the_model_says_greedily(lm):
    answers = answer(lm, question_set())
    for prompt, said in zip(answers.prompts, answers.token_ids, strict=True):
        ids = lm.encode(prompt)
        for token in said:
            row = torch.tensor([ids])
            logits = lm.logits(row, torch.ones_like(row, dtype=torch.bool))
            assert token == int(logits[0, -1].argmax())
            ids.append(token)


def test_an_answer_keeps_the_bare_question_beside_the_prompt(lm):
    question = Question(
        "q", "the king . where was anna born ?", ("paris",), "g", asked="where was anna born ?"
    )
    answers = answer(lm, dataclasses.replace(question_set(), questions=(question,)))
    assert answers.asked == ("where was anna born ?",)
    assert answer(lm, question_set()).asked == PROMPTS


def test_scores_are_those_of_a_teacher_forced_pass(lm):
    answers = answer(lm, question_set())
    forced = score(lm, [lm.encode(prompt) for prompt in answers.prompts], answers.token_ids)
    for sample, one in enumerate(forced):
        assert answers.logprobs[sample] == pytest.approx(one.logprobs, abs=1e-5)
        assert answers.entropies[sample] == pytest.approx(one.entropies, abs=1e-5)
        assert answers.prob[sample] == pytest.approx(np.exp(one.logprobs.sum()), abs=1e-6)
        assert answers.output.column("min_logprob")[sample] == pytest.approx(
            one.logprobs.min(), abs=1e-5
        )


def test_an_answer_is_right_if_it_is_among_the_references(lm):
    said = answer(lm, question_set()).texts
    truth = answer(lm, question_set(answers=("nothing", *(t for t in said if t))))
    assert set(truth.categories) == {"correct"}
    assert truth.labels.tolist() == [0] * len(PROMPTS)
    false = answer(lm, question_set(answers=("nothing like it",)))
    assert false.labels.tolist() == [1] * len(PROMPTS)


def test_a_model_that_stops_at_once_is_wrong_and_keeps_the_token_it_stopped_with(lm):
    (said,) = answer(lm, question_set(PROMPTS[:1])).token_ids
    (first,) = {lm.decode(said[:1]).strip()}
    answers = answer(lm, question_set(PROMPTS[:1], stop=(first,), answers=(first,)))
    assert answers.texts == ("",)
    assert answers.token_ids == (said[:1],)
    assert answers.labels.tolist() == [1]
    assert answers.prob[0] == pytest.approx(np.exp(answers.logprobs[0][0]))


def test_a_saved_file_holds_the_same_answers(lm, tmp_path):
    answers = answer(lm, question_set(answers=("São Paulo", "=1+1")))
    answers.save(tmp_path / "answers.parquet")
    assert same(Answers.load(tmp_path / "answers.parquet"), answers)


@pytest.mark.parametrize("content", [b"", b"no parquet", None])
def test_a_file_that_is_missing_or_no_parquet_is_named(tmp_path, content):
    path = tmp_path / "answers.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"answers\.parquet: cannot be read"):
        Answers.load(path)


def test_a_table_without_an_answers_column_is_named(tmp_path):
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"labels": [1]}), path)
    with pytest.raises(DataError, match=r"other\.parquet: holds no answers: no column .*texts"):
        Answers.load(path)


def test_answers_are_taken_with_all_that_belongs_to_them(lm):
    whole = answer(lm, question_set())
    taken = whole.take(np.array([2, 0, 2]))
    assert taken.prompts == (PROMPTS[2], PROMPTS[0], PROMPTS[2])
    assert taken.token_ids[1] == whole.token_ids[0]
    assert taken.prob.tolist() == whole.prob[[2, 0, 2]].tolist()
    assert same(whole.take(np.arange(len(whole))), whole)
