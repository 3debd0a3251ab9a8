import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ghosttrack.files import read_json, write_json
from tests.support import tiny
from tests.support.commands import Workplace, said
from tests.support.programs import Done


@pytest.fixture
def output(done: Done, tmp_path: Path) -> Path:
    """Where the finished job's store is, and nothing else."""
    return done.linked(tmp_path, "activations")


@pytest.fixture
def bank(done: Done, tmp_path: Path) -> Path:
    return shutil.copytree(done.made["saes"], tmp_path / "bank")


def verdicts(text: str) -> dict[str, str]:
    """The last words of each hook point's row."""
    rows = [line.split() for line in text.splitlines() if " layer_" in line]
    return {row[1]: " ".join(row[6:]) for row in rows}


def checked(output: Path) -> list[dict]:
    (file,) = (output / "tiny" / "runs" / "check").glob("2*/metrics.json")
    return read_json(file)["check"]["hooks"]


def falsify(file: Path, *keys: str | int) -> None:
    content = read_json(file)
    held = content
    for key in keys[:-1]:
        held = held[key]
    held[keys[-1]] *= 0.99
    write_json(file, content)


@pytest.mark.slow
@pytest.mark.parametrize("from_store", [True, False])
def test_a_bank_is_found_as_good_as_it_says_and_nothing_is_trained(
    workplace: Workplace, done: Done, output: Path, bank: Path, from_store: bool
):
    """Without a store the model reads the held-out text again."""
    where = output if from_store else output / "elsewhere"
    text = said(workplace.console(where, "check", str(bank)))
    assert verdicts(text) == dict.fromkeys(["layer_0", "layer_1", "layer_2"], "agrees")
    for row, claimed in zip(checked(where), read_json(bank / "metrics.json")["hooks"], strict=True):
        for name in ("fvu", "l0"):
            assert row["measured"][name] == pytest.approx(claimed[name], rel=1e-3)
    assert not (where / "tiny" / "saes").exists()
    assert (where / "tiny" / "activations").exists() == from_store


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "keys"),
    [
        pytest.param("metrics.json", ("hooks", 1, "fvu"), id="metrics.json"),
        pytest.param("metrics.json", ("hooks", 1, "l0"), id="L0"),
        pytest.param("layer_1/cfg.json", ("metadata", "fvu"), id="cfg.json"),
    ],
)
def test_a_claim_that_is_not_met_is_named_and_ends_with_status_1(
    workplace: Workplace, output: Path, bank: Path, name: str, keys: tuple
):
    falsify(bank / name, *keys)
    result = workplace.console(output, "check", str(bank))
    assert result.returncode == 1
    assert verdicts(result.stdout) == {
        "layer_0": "agrees",
        "layer_1": "DIFFERS",
        "layer_2": "agrees",
    }
    assert result.stderr.splitlines() == [f"{bank}: FVU or L0 is not as claimed at layer_1"]


@pytest.mark.slow
def test_claims_about_other_tokens_are_neither_met_nor_broken(
    workplace: Workplace, output: Path, bank: Path
):
    falsify(bank / "metrics.json", "hooks", 1, "fvu")
    more = ("corpus.heldout_tokens=1024", "layers=[0,1]")
    text = said(workplace.console(output, "check", str(bank), *more))
    assert verdicts(text) == dict.fromkeys(["layer_0", "layer_1"], "claimed on other data")


def sparsify(folder: Path, d_model: int = tiny.D_MODEL) -> Path:
    folder.mkdir(parents=True)
    draw = torch.Generator().manual_seed(0)
    W_dec = torch.nn.functional.normalize(torch.randn(50, d_model, generator=draw), dim=1)
    biases = {"encoder.bias": torch.zeros(50), "b_dec": torch.zeros(d_model)}
    weights = {"encoder.weight": W_dec.clone(), "W_dec": W_dec}
    save_file({**weights, **biases}, folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"k": 7, "d_in": d_model, "num_latents": 50}))
    return folder


@pytest.mark.slow
def test_what_another_library_made_is_measured_though_it_claims_nothing(
    workplace: Workplace, output: Path
):
    folder = sparsify(output / "layers.2")
    text = said(workplace.console(output, "check", str(folder)))
    assert verdicts(text) == {"layer_2": "nothing claimed"}
    (row,) = checked(output)
    assert row["measured"]["fvu"] > 0.1
    assert 1 < row["measured"]["l0"] <= 7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        pytest.param(lambda f: f / "none", (), "config: check .*none: no such file", id="nowhere"),
        pytest.param(lambda f: sparsify(f / "layers.7"), (), "has SAEs of layer_7; ", id="deep"),
        pytest.param(
            lambda f: sparsify(f / "layers.1"),
            ("layers=[0,1]",),
            r"config: layers: .* has no SAE of \[0\], only of layer_1",
            id="layers",
        ),
        pytest.param(
            lambda f: sparsify(f / "layers.1", 48), (), "d_model is 48, .* have 32", id="width"
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    workplace: Workplace, output: Path, make, settings: tuple[str, ...], message: str
):
    result = workplace.console(output, "check", str(make(output)), *settings)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert re.search(message, line)
