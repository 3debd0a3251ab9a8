"""The folder of a world's model."""

import json
from pathlib import Path

import pytest

from ghosttrack.errors import DataError
from ghosttrack.world.facts import Recipe, WorldSpec, load_spec
from ghosttrack.world.make import save_world
from ghosttrack.world.text import make_tokenizer


def test_a_saved_spec_is_read_back(tmp_path: Path, spec: WorldSpec) -> None:
    save_world(tmp_path, spec, Recipe(), make_tokenizer(spec), {"head": 1.0})
    assert load_spec(tmp_path) == spec


def test_a_folder_of_another_model_is_refused_with_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no world.json.*python -m ghosttrack.world"):
        load_spec(tmp_path)


def test_an_unfinished_rebuild_is_no_world(tmp_path: Path, spec: WorldSpec) -> None:
    save_world(tmp_path, spec, Recipe(), make_tokenizer(spec), {})
    with pytest.raises(DataError, match=r"world.json is unfinished; run"):
        load_spec(tmp_path)


def written(**spec: object) -> str:
    return json.dumps({"spec": spec, "measured": {"head": 1.0}})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *((content, "") for content in ("[]", "{", "{}", written(seed=0))),
        (written(**WorldSpec().to_json() | {"gap_frac": 2.0}), ": gap_frac"),
    ],
)
def test_a_broken_world_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "world.json").write_text(content)
    with pytest.raises(DataError, match=rf"world\.json{message}"):
        load_spec(tmp_path)
