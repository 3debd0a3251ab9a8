from pathlib import Path

import pytest

from ghosttrack.errors import ConfigError
from ghosttrack.files import write_json
from ghosttrack.pipelines.kept import FACTS, fitted_for, kept_detector
from tests.support.settings import detection


@pytest.fixture
def fitted(gpt2_folder: Path, tmp_path: Path) -> Path:
    """A folder as the detectors of a model leave it, without their parameters."""
    folder = tmp_path / "out" / "mine" / "detectors" / "file-baseline-0"
    folder.mkdir(parents=True)
    (folder / "manifest.json").touch()
    model = {"path": str(gpt2_folder), "hub": None}
    questions = {"name": "file", "path": "mine.jsonl"}
    write_json(folder / FACTS, {"model": model, "questions": questions})
    return folder


def test_a_model_alone_finds_what_was_fitted_for_it(
    gpt2_folder: Path, fitted: Path, tmp_path: Path
):
    there = f"output_root={tmp_path / 'out'}", f"model.path={gpt2_folder}"
    assert kept_detector(detection(*there)) == fitted
    asked = *there, "questions=file", "questions.path=mine.jsonl"
    assert kept_detector(detection(*asked, "model.name=mine")) is None
    with pytest.raises(ConfigError, match=r"file-baseline-0 \(questions=file questions.path=mine"):
        kept_detector(detection(*asked, "model.name=other"))
    with pytest.raises(ConfigError, match="nothing is fitted for openai-community"):
        kept_detector(detection(there[0], "model=gpt2-small"))
    assert kept_detector(detection(there[0])) is None
    assert fitted_for(detection(there[0])) == []
