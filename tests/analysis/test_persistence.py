from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from ghosttrack.analysis.persistence import chains_of, following, main
from ghosttrack.sae.bank import Bank

D = 24


def write_bank(folder: Path, hooks: Sequence[str]) -> Path:
    """Latents 0 to 5 keep their direction at all hook points, 6 and 7 turn at each."""
    bank = Bank(hooks, D, 8, 2)
    with torch.no_grad():
        for place in range(len(hooks)):
            bank.W_dec[place, :6] = torch.eye(D)[:6]
            bank.W_dec[place, 6:] = torch.eye(D)[6 + 2 * place : 8 + 2 * place]
    bank.save(folder, None)
    return folder


def measured(folder: Path, hooks: Sequence[str]) -> list[str]:
    main([str(write_bank(folder / "bank", hooks)), "--out", str(folder / "out")])
    return (folder / "out" / "persistence.csv").read_text().splitlines()


def test_latents_that_keep_their_direction_persist_and_those_that_turn_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    header, *lines = measured(tmp_path, ["layer_0", "layer_3", "layer_10"])
    more = "goes on,mean hook points more,after 1,after 2"
    assert header == f"from,to,positions,chance cosine,{more}"
    (one, two) = (line.split(",") for line in lines)
    assert (one[:3], one[4:]) == (["layer_0", "layer_3", "1"], ["0.75", "1.5", "0.75", "0.75"])
    assert (two[:3], two[4:]) == (["layer_3", "layer_10", "1"], ["0.75", "0.75", "0.75", ""])
    assert "persistence.csv" in capsys.readouterr().out


def test_latents_are_followed_at_each_position_by_itself(tmp_path: Path):
    """Two latents turn from layer to layer at position 1, all of position 2 at its second step."""
    hooks = [f"layer_{layer}_pos_{pos}" for layer in (0, 3, 5) for pos in (1, 2)]
    folder = write_bank(tmp_path / "bank", hooks)
    bank = Bank.load(folder)
    with torch.no_grad():
        bank.W_dec[5] = torch.eye(D)[16:]
    bank.save(folder, None)
    main([str(folder), "--out", str(tmp_path / "out")])
    lines = (tmp_path / "out" / "persistence.csv").read_text().splitlines()[1:]
    (one, two) = (line.split(",") for line in lines)
    assert (one[:3], one[4:]) == (["layer_0", "layer_3", "2"], ["0.75", "1.125", "0.75", "0.375"])
    assert (two[:3], two[4:]) == (["layer_3", "layer_5", "2"], ["0.375", "0.375", "0.375", ""])


def test_positions_of_other_layers_are_apart():
    hooks = ["layer_0_pos_1", "layer_0_pos_2", "layer_2_pos_1", "layer_5_pos_2", "layer_5_pos_3"]
    assert chains_of(hooks) == {(0, 2): [[0, 2]], (0, 5): [[1, 3]], (5,): [[4]]}


def test_folders_of_saelens_are_read(tmp_path: Path):
    write_bank(tmp_path / "bank", ["layer_0", "layer_1"])
    (tmp_path / "bank" / "bank.json").unlink()
    main([str(tmp_path / "bank"), "--out", str(tmp_path / "out")])
    assert "layer_0,layer_1,1," in (tmp_path / "out" / "persistence.csv").read_text()


def test_only_mutually_nearest_latents_above_chance_go_on():
    upper = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    deeper = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.3]])
    assert following(upper, deeper, 0.5).tolist() == [0, -1, -1]


def test_one_layer_is_refused_in_one_line(tmp_path: Path):
    with pytest.raises(SystemExit, match="no position has two layers"):
        measured(tmp_path, ["layer_0_pos_1", "layer_0_pos_2"])
