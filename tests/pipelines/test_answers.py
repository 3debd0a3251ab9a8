from pathlib import Path

import numpy as np
import pytest

from ghosttrack.pipelines.answers import ask_again
from tests.support.asking import ask


def asked(model: Path, folder: Path, rows: list[dict[str, object]], *more: str):
    """What the tiny model answers to these questions, and when it is asked again."""
    found = ask(model, folder, rows, *more)
    return found.answered, ask_again(*found)


def test_questions_of_which_nothing_is_known_are_asked_once(gpt2_folder: Path, tmp_path: Path):
    rows = [{"question": f"who lives in {city}?", "answers": "anna"} for city in ("rome", "oslo")]
    answered, again = asked(gpt2_folder, tmp_path, rows)
    assert len(answered.answers) == 2
    assert set(again.interventions.left_out) == {"paraphrase", "swap", "owner", "siblings"}
    assert again.interventions.tables == {}
    assert again.interventions.forwards == {}
    assert np.isnan(again.interventions.gaps).all()


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
    _, built = asked(gpt2_folder, tmp_path, rows)
    _, found = asked(gpt2_folder, tmp_path, rows)
    assert built.artifact.built
    assert not found.artifact.built
    assert list(found.interventions.tables) == list(built.interventions.tables)
    assert {"paraphrase", "swap", "owner"} <= set(found.interventions.tables)
    for name, table in found.interventions.tables.items():
        assert table.names == built.interventions.tables[name].names
        np.testing.assert_array_equal(table.values, built.interventions.tables[name].values)


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
    _, again = asked(gpt2_folder, tmp_path, rows, f"interventions.copies.paraphrase={setting}")
    assert again.interventions.forwards.get("paraphrase", 0) == n_paraphrases
