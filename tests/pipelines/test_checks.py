import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ghosttrack.detector.answers.sampling import SAMPLING_SCORES
from tests.support.asking import ask
from tests.support.tiny import add_chat_template, tiny_entailment

ROWS = [
    {"question": f"who lives in {city}?", "answer": "anna", "wrong_answers": ["bert", "carla"]}
    for city in ("rome", "oslo", "paris")
]


@pytest.fixture(scope="module")
def entailment_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_entailment(tmp_path_factory.mktemp("entailment"))


@pytest.fixture
def chat_folder(gpt2_folder: Path, tmp_path: Path) -> Path:
    folder = shutil.copytree(gpt2_folder, tmp_path / "chat")
    add_chat_template(folder)
    return folder


P_TRUE = "asking.p_true='{question} answer {answer} is it?'"


def test_by_default_a_model_is_asked_about_its_answers(gpt2_folder: Path, tmp_path: Path):
    found = ask(gpt2_folder, tmp_path, ROWS).checks.get()
    assert found.forwards == {"prior": 1.0, "p_true": 2.0, "verbalised": 1.0}
    assert {len(table) for table in found.tables.values()} == {len(ROWS)}


def test_every_check_has_its_table_and_its_cost_and_is_read_back(gpt2_folder: Path, tmp_path: Path):
    asked = ("asking.samples=4", P_TRUE, "asking.confidence=null")
    first, second = (ask(gpt2_folder, tmp_path, ROWS, *asked).checks for _ in range(2))
    built = first.get()
    assert built.forwards == {"prior": 1.0, "p_true": 2.0, "sampling": 4.0}
    assert built.tables["sampling"].names == tuple(one.spec.name for one in SAMPLING_SCORES)
    samples = pq.read_table(first.make().path / "samples.parquet")["samples"].to_pylist()
    assert [len(texts) for texts in samples] == [4] * len(ROWS)
    found = second.get()
    assert first.make().built
    assert not second.make().built
    for name, table in built.tables.items():
        np.testing.assert_array_equal(found.tables[name].values, table.values)
    assert ask(gpt2_folder, tmp_path, ROWS, *asked, "seed=1").checks.id != first.id


def test_written_answers_are_checked_as_the_models_own_are(
    gpt2_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level("INFO"):
        stages = ask(gpt2_folder, tmp_path, ROWS, "questions.answers=written", P_TRUE)
        answers, found = stages.answers.get(), stages.checks.get()
    assert "answers that others wrote are judged" in caplog.text
    assert sorted(answers.texts) == ["anna"] * 3 + ["bert"] * 3
    assert answers.labels.tolist() == [text == "bert" for text in answers.texts]
    assert len(found.tables["p_true"]) == 6
    assert ask(gpt2_folder, tmp_path, ROWS).answers.id != stages.answers.id


def test_attention_and_masked_answers_are_read_where_they_are_judged(
    gpt2_folder: Path, tmp_path: Path
):
    only = ("bank=none", "evaluation.compare=[rauq,control:answer_masked,output]")
    states = ask(gpt2_folder, tmp_path, ROWS, *only).states
    assert states is not None
    found = states.get()
    assert {*found.tables} == {"rauq", "lookback"}
    assert found.states["masked"].shape == found.states["answer_last"].shape
    other = ask(gpt2_folder, tmp_path, ROWS, "bank=none", "evaluation.compare=[output]")
    assert other.states is None


def test_a_model_is_asked_about_its_answers_and_samples_where_that_is_judged(
    gpt2_folder: Path, entailment_folder: Path, tmp_path: Path
):
    rows = "p_true,verbalised,eigenscore,semantic_entropy:entailment"
    only = ("bank=none", f"evaluation.compare=[{rows}]")
    more = ("asking.samples=3", f"asking.entailment={entailment_folder}")
    found = ask(gpt2_folder, tmp_path, ROWS, *only, *more).checks.get()
    passes = {"prior": 1.0, "p_true": 2.0, "verbalised": 1.0, "sampling": 3.0}
    assert found.forwards == {**passes, "eigenscore": 6.0, "entailment": 3.0}
    for name in ("p_true", "eigenscore", "entailment"):
        assert np.isfinite(found.tables[name].values).all(), name
    turned = ("bank=none", "evaluation.compare=[reverse]")
    assert ask(gpt2_folder, tmp_path, ROWS, *turned).checks.get().forwards["reverse"] == 2.0
    silent = ("asking.p_true=null", "asking.confidence=null")
    assert ask(gpt2_folder, tmp_path, ROWS, *only, *silent).checks.get().forwards == {"prior": 1.0}


def test_what_is_asked_in_a_chat_is_a_turn_of_the_users(chat_folder: Path, tmp_path: Path):
    asked = ask(chat_folder, tmp_path, ROWS, "asking=chat", "asking.shots=0")
    assert asked.questions.turn == "user : {text} assistant :"


def test_a_text_that_does_not_fit_the_model_is_left_out_by_name(
    gpt2_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    long = "asking.p_true='{question} {answer} " + "is it " * 40 + "?'"
    with caplog.at_level("WARNING"):
        found = ask(gpt2_folder, tmp_path, ROWS, long).checks.get()
    assert "p_true" not in found.tables
    assert "left out: p_true, a text of" in caplog.text
