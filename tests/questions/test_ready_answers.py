import json
from pathlib import Path

import pytest

from ghosttrack.errors import DataError
from ghosttrack.questions.ready_answers import read_answered

GIVEN = {"question": "Who wrote Emma?", "response": " Jane Austen. ", "label": "correct"}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_answers_are_read_with_what_is_known_of_them(tmp_path: Path):
    rest = {"samples": ["Austen", ""], "token_logprobs": [-0.5, 0], "group": "g"}
    path = write(
        tmp_path / "a.jsonl",
        GIVEN,
        {"question": "Who, then?", "response": "", "answers": ["Bert"]} | rest,
    )
    bare, full = read_answered(path)
    assert (bare.response, bare.label, bare.group) == ("Jane Austen.", 0, "who wrote emma")
    assert (bare.references, bare.samples, bare.logprobs) == ((), (), ())
    assert (full.response, full.label, full.references) == ("", None, ("Bert",))
    assert (full.samples, full.logprobs, full.group) == (("Austen", ""), (-0.5, 0.0), "g")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"question": "a", "response": "b", "target": "c"},
            "neither `label` nor `answers` tells whether it is right; found question, response,"
            " target; rename target to answers",
        ),
        (
            {"prompt": "a", "responses": "b"},
            "no `question`; found prompt, responses; rename prompt to question, responses to"
            " response",
        ),
        (GIVEN | {"label": ["correct"]}, "label must be correct or error, got ['correct']"),
        (GIVEN | {"label": {"a": 1}}, "label must be correct or error, got {'a': 1}"),
        (GIVEN | {"label": 2.5}, "label must be correct or error, got 2.5"),
        (
            GIVEN | {"label": 1},
            "label must be correct or error, got 1; which of the two a number means, it does not"
            " say",
        ),
        (GIVEN | {"label": "wrong"}, "label must be correct or error, got 'wrong'"),
        (GIVEN | {"question": ""}, "question must be a text, got ''"),
        (GIVEN | {"response": 7}, "response must be a text, got 7"),
        (GIVEN | {"samples": "one"}, "samples must be a list, got 'one'"),
        (GIVEN | {"samples": [1]}, "samples must be a text, got 1"),
        (GIVEN | {"token_logprobs": [0.5]}, "token_logprobs must be at most 0, got 0.5"),
        (GIVEN | {"group": 3}, "group must be a text, got 3"),
        ([GIVEN], "not a JSON object; write one object a line"),
    ],
)
def test_a_malformed_answer_is_named(tmp_path: Path, row, message):
    path = write(tmp_path / "a.jsonl", GIVEN, row)
    with pytest.raises(DataError) as caught:
        read_answered(path)
    assert str(caught.value) == f"{path}:2: {message}"


def test_a_file_without_answers_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="holds no answers"):
        read_answered(write(tmp_path / "a.jsonl"))


def test_columns_that_another_tool_names_otherwise_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    read_answered(write(tmp_path / "a.jsonl", GIVEN | {"sampled_responses": ["Austen"]}))
    assert "rename sampled_responses to samples" in caplog.text
