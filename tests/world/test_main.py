"""`python -m ghosttrack.world`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ghosttrack.models.load import load_lm
from ghosttrack.world import __main__ as command
from ghosttrack.world.facts import Recipe, WorldSpec, load_spec
from ghosttrack.world.measure import accuracy, ask
from ghosttrack.world.questions import question_set
from tests.world.conftest import shipped_config


@pytest.mark.parametrize("entities", ["medium", "1,2,3", "1,2,3,-4", "1,2,3,x"])
def test_strange_sizes_are_one_line(entities: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--entities must be full, small or four counts"):
        command.main(["--entities", entities, "--out", str(tmp_path / "new")])


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("somebody's")
    with pytest.raises(SystemExit, match="holds something else"):
        command.main(["--out", str(tmp_path)])
    assert (tmp_path / "model.safetensors").read_text() == "somebody's"


def test_a_rebuilt_folder_is_a_model_of_its_world(tmp_path: Path) -> None:
    spec = WorldSpec(seed=5, head=6, mid=0, rare=0, unseen=3, head_exposure=30, n_values=6)
    command.rebuild(spec, Recipe(n_layers=2, d_model=32), tmp_path / "made")
    folder = tmp_path / "made"
    assert load_spec(folder) == spec
    lm = load_lm(replace(shipped_config(), path=str(folder)), folder, "cpu")
    assert (lm.n_layers, lm.d_model) == (2, 32)
    measured = json.loads((folder / "world.json").read_text())["measured"]
    assert accuracy(ask(lm, question_set(spec, 36, seed=5)))._asdict() == measured
