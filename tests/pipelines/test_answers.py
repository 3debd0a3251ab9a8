from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ghosttrack.pipelines.answers import read_all_answers, read_answers
from tests.support.answers import made_up_answers
from tests.support.asking import ask


def test_an_echo_and_no_answer_are_kept_and_not_judged(tmp_path: Path):
    said = replace(made_up_answers(4, 4), categories=("correct", "echo", "no_answer", "wrong"))
    said.save(tmp_path / "answers.parquet")
    assert read_all_answers(tmp_path).categories == said.categories
    judged = read_answers(tmp_path)
    assert judged.question_ids == ("q0", "q3")
    assert judged.output.values.tolist() == said.output.values[[0, 3]].tolist()


def test_questions_of_which_nothing_is_known_are_asked_once(gpt2_folder: Path, tmp_path: Path):
    rows = [{"question": f"who lives in {city}?", "answers": "anna"} for city in ("rome", "oslo")]
    stages = ask(gpt2_folder, tmp_path, rows)
    assert len(stages.answers.get()) == 2
    again = stages.again.get()
    assert set(again.left_out) == {"paraphrase", "swap", "owner", "siblings"}
    assert again.tables == {}
    assert again.forwards == {}
    assert np.isnan(again.gaps).all()


def test_what_the_interventions_found_is_read_back_from_the_artefact(
    gpt2_folder: Path, tmp_path: Path
):
    rows = [
        {
            "question": f"who lives in {city}?",
            "answers": ["anna"],
            "subject": city,
            "kind": "city",
            "wordings": [f"in {city} lives who?"],
        }
        for city in ("rome", "oslo", "paris")
    ]
    first, second = (ask(gpt2_folder, tmp_path, rows).again for _ in range(2))
    assert not second.exists
    assert first.make().built
    assert not second.make().built
    built, found = first.get(), second.get()
    assert list(found.tables) == list(built.tables)
    assert {"paraphrase", "swap", "owner"} <= set(found.tables)
    for name, table in found.tables.items():
        assert table.names == built.tables[name].names
        np.testing.assert_array_equal(table.values, built.tables[name].values)


@pytest.mark.parametrize(("setting", "n_paraphrases"), [(0, 0), (1, 1)])
def test_a_question_is_reworded_at_most_so_often(
    gpt2_folder: Path, tmp_path: Path, setting: int, n_paraphrases: int
):
    rows = [
        {
            "question": "who lives in rome?",
            "answers": ["anna"],
            "wordings": ["in rome lives who?", "rome is where who lives?"],
        }
    ]
    setting = f"interventions.copies.paraphrase={setting}"
    again = ask(gpt2_folder, tmp_path, rows, setting).again.get()
    assert again.forwards.get("paraphrase", 0) == n_paraphrases
