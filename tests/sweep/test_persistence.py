from pathlib import Path

import numpy as np
import pytest
import torch

from ghosttrack.artifacts import Key, build
from ghosttrack.sae.bank import Bank
from sweep.persistence import following, main

D = 24


def write_bank(root: Path, n_layers: int) -> Path:
    """Latents 0 to 5 keep their direction in all layers, 6 and 7 turn at each."""
    bank = Bank([f"layer_{layer}" for layer in range(n_layers)], D, 8, 2)
    with torch.no_grad():
        for layer in range(n_layers):
            bank.W_dec[layer, :6] = torch.eye(D)[:6]
            bank.W_dec[layer, 6:] = torch.eye(D)[6 + 2 * layer : 8 + 2 * layer]
    return build(
        Key(root, "saes", "topk-8-2", {"n": n_layers}), lambda one: bank.save(one, None)
    ).path


def test_latents_that_keep_their_direction_persist_and_those_that_turn_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    main([str(write_bank(tmp_path, 3)), "--out", str(tmp_path / "out")])
    lines = (tmp_path / "out" / "persistence.csv").read_text().splitlines()
    assert lines[0] == "from,chance cosine,goes on,mean layers more,after 1,after 2"
    assert lines[1].split(",")[2:] == ["0.75", "1.5", "0.75", "0.75"]
    assert lines[2].split(",")[2:] == ["0.75", "0.75", "0.75", ""]
    assert "persistence.csv" in capsys.readouterr().out


def test_only_mutually_nearest_latents_above_chance_go_on():
    upper = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    deeper = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.3]])
    assert following(upper, deeper, 0.5).tolist() == [0, -1, -1]


def test_one_layer_is_refused_in_one_line(tmp_path: Path):
    with pytest.raises(SystemExit, match="persistence needs two layers"):
        main([str(write_bank(tmp_path, 1)), "--out", str(tmp_path / "out")])
