from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ghosttrack.errors import ConfigError, DataError
from ghosttrack.pipelines.answers import read_all_answers, read_answers
from ghosttrack.pipelines.detectors import asked_plainly
from ghosttrack.pipelines.questions import question_set
from ghosttrack.pipelines.setup import Setup
from ghosttrack.questions.asking import templated
from ghosttrack.questions.prompts import bare_prompt
from ghosttrack.run import Run
from tests.support.answers import made_up_answers
from tests.support.asking import ask
from tests.support.settings import detection


def test_an_echo_and_no_answer_are_kept_and_not_judged(tmp_path: Path):
    said = replace(made_up_answers(4, 4), categories=("correct", "echo", "no_answer", "wrong"))
    said.save(tmp_path / "answers.parquet")
    assert read_all_answers(tmp_path).categories == said.categories
    judged = read_answers(tmp_path)
    assert judged.question_ids == ("q0", "q3")
    assert judged.output.values.tolist() == said.output.values[[0, 3]].tolist()


def test_questions_of_which_nothing_is_known_are_asked_once(gpt2_folder: Path, tmp_path: Path):
    rows = [{"question": f"who lives in {city}?", "answers": "anna"} for city in ("rome", "oslo")]
    (tmp_path / "text.txt").write_text("who lives in rome? anna. " * 500)
    corpus = "corpus=text", f"corpus.path={tmp_path / 'text.txt'}"
    stages = ask(gpt2_folder, tmp_path, rows, *corpus)
    with pytest.raises(DataError, match="no answer is right"):
        stages.make()
    assert not list(tmp_path.rglob("saes"))  # nor is a bank trained for what cannot be judged
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


CITIES = ("rome", "oslo", "paris", "berlin", "london")


def test_others_are_asked_about_whose_names_are_known(gpt2_folder: Path, tmp_path: Path):
    rows = [
        {"question": f"who lives in {city}?", "answers": "anna", "subject": city, "kind": "city"}
        for city in CITIES
    ]
    stages = [
        ask(gpt2_folder, tmp_path, rows, f"interventions.known_names={share}")
        for share in (1.0, 0.4)
    ]
    assert stages[0].questions.names["city"] == CITIES
    assert len(stages[1].questions.names["city"]) == 2
    assert stages[0].answers.id == stages[1].answers.id
    assert stages[0].again.id != stages[1].again.id
    with pytest.raises(ConfigError, match=r"interventions.known_names must be in \(0, 1\], got 0"):
        ask(gpt2_folder, tmp_path, rows, "interventions.known_names=0")


def test_new_prompts_are_asked_as_the_set_was(gpt2_folder: Path, tmp_path: Path):
    """What is shown is left out of the answers, and part of what they are found by."""
    rows = [{"question": f"who lives in {city}?", "answers": "anna"} for city in CITIES]
    stages = [
        ask(gpt2_folder, tmp_path, rows, "asking=few_shot", f"asking.shots={n}") for n in (1, 2)
    ]
    assert stages[0].answers.id != stages[1].answers.id
    questions = stages[1].questions
    assert len(stages[1].answers.get()) == len(questions.questions) == 3
    assert questions.questions[0].prompt.count("A: anna") == 2
    live = replace(questions, questions=(bare_prompt("who lives in vienna?"),))
    kept = asked_plainly(stages[1].setup.config.asking, questions)
    (put,) = templated(live, kept).questions
    shown = questions.template.partition("{question}")[0]
    assert put.prompt == f"{shown}who lives in vienna?\nA:"


def test_a_question_longer_than_the_context_is_not_asked(gpt2_folder: Path, tmp_path: Path):
    rows = [{"question": f"who lives in {city}?", "answers": "anna"} for city in CITIES]
    rows[1]["question"] = "who " * 70
    answers = ask(gpt2_folder, tmp_path, rows).answers.get()
    assert answers.question_ids == ("0", "2", "3", "4")


def test_a_world_is_asked_in_its_own_words(tmp_path: Path):
    setup = Setup(detection("asking=chat"), Run(tmp_path, "detect"))
    with pytest.raises(ConfigError, match="asking=chat is not for questions=ghostworld"):
        question_set(setup)
