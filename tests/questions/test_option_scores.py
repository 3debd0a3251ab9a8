import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ghosttrack.errors import DataError
from ghosttrack.questions.option_scores import METADATA, read_option_scores

FACT = {"sub_id": "Q1", "sub_label": "Rome", "answer_idx": 1, "pll_scores": [-3.0, -1.5, -2]}
TOLD = {
    "templates": ["In [X] one speaks [Y].", "[Y] is spoken in [X]."],
    "template_index": 1,
    "answer_space_labels": ["Latin", "Italian", "Greek"],
    "answer_space_ids": ["Q397", "Q652", "Q9129"],
}


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


@pytest.mark.parametrize("name", METADATA)
def test_metadata_of_either_name_tells_options_and_statements(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
):
    write(tmp_path / "P9_results.jsonl", FACT)
    (tmp_path / name).write_text(json.dumps({"P9": TOLD}, indent=1))
    (found,) = read_option_scores(tmp_path)
    assert found.options == ("Latin", "Italian", "Greek")
    assert found.statements == ("[Y] is spoken in Rome.",)
    assert not caplog.text


def test_names_that_a_folder_lacks_are_said_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    for code in ("P1", "P9"):
        write(tmp_path / f"{code}_results.jsonl", FACT, FACT | {"sub_id": "Q2", "sub_label": ""})
    (tmp_path / METADATA[0]).write_text(json.dumps({"P9": TOLD}))
    first, second = read_option_scores(tmp_path)
    assert first.subjects == second.subjects == ("Rome", "Q2")
    assert second.statements[1] == "[Y] is spoken in Q2."
    assert "name the options of 1 of 2 relations (P1)" in caplog.text
    assert caplog.text.count("1 of 2 facts have no sub_label") == 2


LABELS = {"Q397": "Latin", "Q652": "Italian", "Q9129": "Greek"}
SUBJECT = {"sub_id": "Q1", "sub_label": "Rome"}
SPANS = {"subject": [0], "answer": [1], "template": []}
TABLES = {
    "tokens": [{**FACT, "pll_scores": [[-1.0, -2.0], [-0.5, -1.0], [-2.0]]}],
    "surprisal": [
        {
            **SUBJECT,
            **{"obj_id": key, "obj_label": LABELS[key]},
            **{"predicted_tokens": ["Italian", "Greek", "Latin"], "pll_scores": [1.5, 2, 3.0]},
        }
        for key in ("Q652", "Q397", "Q9129")
    ],
    "segments": [
        {
            **SUBJECT,
            **{"obj_id": key, "obj_label": LABELS[key]},
            "results": [
                [[["In", 0.5], [name, value - 0.5]], SPANS]
                for name, value in (("Italian", 1.5), ("Latin", 3.0), ("Greek", 2.0))
            ],
        }
        for key in ("Q652", "Q397", "Q9129")
    ],
}


@pytest.mark.parametrize("layout", TABLES)
@pytest.mark.parametrize("has_metadata", [True, False])
def test_each_versions_layout_gives_the_same_scores(
    tmp_path: Path, layout: str, has_metadata: bool
):
    write(tmp_path / "P9_results.jsonl", *TABLES[layout])
    if has_metadata:
        (tmp_path / METADATA[1]).write_text(json.dumps({"P9": TOLD}))
    (found,) = read_option_scores(tmp_path)
    scores = dict(zip(found.options, found.scores[0].tolist(), strict=True))
    if has_metadata or layout != "tokens":
        assert scores == {"Latin": -3, "Italian": -1.5, "Greek": -2}
        assert found.options[found.right[0]] == "Italian"
    assert found.scores[0, found.right[0]] == -1.5
    assert len(set(found.ids)) == len(TABLES[layout])


def test_parquet_and_rows_of_several_templates_are_read(tmp_path: Path):
    rows = [FACT | {"template_index": index} for index in (0, 1)]
    pd.DataFrame(rows).to_parquet(tmp_path / "P9_results.parquet")
    (tmp_path / METADATA[0]).write_text(json.dumps({"P9": TOLD | {"template_index": [0, 1]}}))
    (found,) = read_option_scores(tmp_path)
    assert found.statements == ("In Rome one speaks [Y].", "[Y] is spoken in Rome.")
    assert found.ids == ("P9/Q1", "P9/Q1#2")


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
        ({"sub_id": None, "sub_label": " "}, "neither sub_id nor sub_label names the subject"),
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
        ("{", "metadata_results.json: not JSON"),
        ("[]", "metadata_results.json: must hold an object per relation"),
        (json.dumps({"P9": TOLD | {"template_index": 2}}), "template_index 2 names none of 2"),
        (
            json.dumps({"P9": TOLD | {"answer_space_labels": ["a"], "answer_space_ids": ["Q1"]}}),
            "names 1 options",
        ),
        (json.dumps({"P9": TOLD | {"answer_space_ids": ["Q1"]}}), "must name each option once"),
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
