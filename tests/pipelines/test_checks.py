from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ghosttrack.detector.answers.sampling import SAMPLING_SCORES
from ghosttrack.pipelines.answers import Answered
from ghosttrack.pipelines.checks import Checked, check_answers
from tests.support.asking import ask

ROWS = [
    {"question": f"who lives in {city}?", "answer": "anna", "wrong_answers": ["bert", "carla"]}
    for city in ("rome", "oslo", "paris")
]
P_TRUE = "asking.p_true='{question} answer {answer} is it?'"


def checked(model: Path, folder: Path, *more: str) -> tuple[Answered, Checked]:
    found = ask(model, folder, ROWS, *more)
    return found.answered, check_answers(*found)


def test_by_default_only_the_prior_is_asked_for(gpt2_folder: Path, tmp_path: Path):
    _, found = checked(gpt2_folder, tmp_path)
    assert found.forwards == {"prior": 1.0}
    assert len(found.tables["prior"]) == len(ROWS)


def test_every_check_has_its_table_and_its_cost_and_is_read_back(gpt2_folder: Path, tmp_path: Path):
    asked = ("asking.samples=4", P_TRUE)
    _, built = checked(gpt2_folder, tmp_path, *asked)
    assert built.forwards == {"prior": 1.0, "p_true": 2.0, "sampling": 4.0}
    assert built.tables["sampling"].names == tuple(one.spec.name for one in SAMPLING_SCORES)
    samples = pq.read_table(built.artifact.path / "samples.parquet")["samples"].to_pylist()
    assert [len(texts) for texts in samples] == [4] * len(ROWS)
    _, found = checked(gpt2_folder, tmp_path, *asked)
    assert built.artifact.built
    assert not found.artifact.built
    for name, table in built.tables.items():
        np.testing.assert_array_equal(found.tables[name].values, table.values)
    _, other = checked(gpt2_folder, tmp_path, *asked, "seed=1")
    assert other.artifact.id != built.artifact.id


def test_written_answers_are_checked_as_the_models_own_are(
    gpt2_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level("INFO"):
        answered, found = checked(gpt2_folder, tmp_path, "questions.answers=written", P_TRUE)
    assert "answers that others wrote are judged" in caplog.text
    assert sorted(answered.answers.texts) == ["anna"] * 3 + ["bert"] * 3
    assert answered.answers.labels.tolist() == [text == "bert" for text in answered.answers.texts]
    assert len(found.tables["p_true"]) == 6
    own, _ = checked(gpt2_folder, tmp_path)
    assert own.artifact.id != answered.artifact.id
