import json
from pathlib import Path

import numpy as np
import pytest

from ghosttrack.errors import DataError
from ghosttrack.questions.ready_answers import read_answered, read_option_scores

FACT = {"sub_id": "Q1", "sub_label": "Rome", "answer_idx": 1, "pll_scores": [-3.0, -1.5, -2]}
TOLD = {
    "templates": ["In [X] one speaks [Y].", "[Y] is spoken in [X]."],
    "template_index": 1,
    "answer_space_labels": ["Latin", "Italian", "Greek"],
}
GIVEN = {"question": "Who wrote Emma?", "response": " Jane Austen. ", "label": "correct"}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_facts_are_read_by_relation(tmp_path: Path):
    write(tmp_path / "P9_results.jsonl", FACT, FACT | {"sub_id": "Q2", "sub_label": "Oslo"})
    write(tmp_path / "P1_results.jsonl", FACT | {"pll_scores": [-1, -2]})
    first, second = read_option_scores(tmp_path)
    assert (first.relation, second.relation) == ("P1", "P9")
    assert second.ids == ("P9/Q1", "P9/Q2")
    assert second.subjects == ("Rome", "Oslo")
    assert second.options == ("option 0", "option 1", "option 2")
    assert second.statements[1] == "P9 of Oslo: [Y]"
    assert first.right.tolist() == [1]
    np.testing.assert_array_equal(second.scores, [[-3, -1.5, -2]] * 2)


def test_metadata_names_options_and_statements(tmp_path: Path):
    write(tmp_path / "P9_results.jsonl", FACT)
    (tmp_path / "metadata_results.json").write_text(json.dumps({"P9": TOLD}, indent=1))
    (found,) = read_option_scores(tmp_path)
    assert found.options == ("Latin", "Italian", "Greek")
    assert found.statements == ("[Y] is spoken in Rome.",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer_idx": 3}, "answer_idx must be in 0..2, got 3"),
        ({"answer_idx": True}, "answer_idx must be in 0..2, got True"),
        ({"answer_idx": None}, "answer_idx must be in 0..2, got None"),
        ({"pll_scores": [-1.0]}, "pll_scores must hold at least 2 scores, got 1"),
        ({"pll_scores": [-1.0, float("nan")]}, "pll_scores must hold numbers, got nan"),
        ({"pll_scores": [-1.0, "x"]}, "pll_scores must hold numbers, got 'x'"),
        ({"pll_scores": "x"}, "pll_scores must be a list, got 'x'"),
        ({"sub_id": None}, "sub_id must be a text, got None"),
        ({"sub_label": " "}, "sub_label must be a text, got ' '"),
        ({"pll_scores": [-1.0] * 4}, "4 pll_scores where the first row of the relation has 3"),
    ],
)
def test_a_malformed_fact_is_named(tmp_path: Path, change, message):
    path = write(tmp_path / "P9_results.jsonl", FACT, FACT | change)
    with pytest.raises(DataError) as caught:
        read_option_scores(tmp_path)
    assert str(caught.value) == f"{path}:2: {message}"


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("{", "metadata_results.json:1: not JSON"),
        ("[]", "metadata_results.json: must hold an object per relation"),
        (json.dumps({"P9": TOLD | {"template_index": 2}}), "template_index 2 names none of 2"),
        (json.dumps({"P9": TOLD | {"answer_space_labels": ["a"]}}), "names 1 options"),
        (json.dumps({"P9": TOLD | {"templates": "x"}}), "templates must be a list, got 'x'"),
    ],
)
def test_malformed_metadata_is_named(tmp_path: Path, told, message):
    write(tmp_path / "P9_results.jsonl", FACT)
    (tmp_path / "metadata_results.json").write_text(told)
    with pytest.raises(DataError, match=r"(metadata_results\.json|P9_results\.jsonl)") as caught:
        read_option_scores(tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_results_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"no <relation>_results\.jsonl lies there"):
        read_option_scores(tmp_path)
    write(tmp_path / "P9_results.jsonl")
    with pytest.raises(DataError, match=r"P9_results\.jsonl: holds no facts"):
        read_option_scores(tmp_path)


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
        ({"question": "a"}, "neither `label` nor `answers` tells whether it is right"),
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
