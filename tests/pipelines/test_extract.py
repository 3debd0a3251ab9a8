import json
import os
import signal
import sys
from pathlib import Path

import pytest

from ghosttrack.artifacts import artifact_id, read
from ghosttrack.files import read_json
from ghosttrack.models.config import Products
from ghosttrack.pipelines.extract import store_identity
from tests.data.conftest import store_config
from tests.support.commands import Workplace, artifacts, contents, execute, only, said
from tests.support.programs import Done

pytestmark = pytest.mark.slow


@pytest.mark.long  # two processes, and a kill of one, are each tested by default
def test_processes_started_here_write_the_store_of_one_also_after_a_kill(
    workplace: Workplace, done: Done, tmp_path: Path
):
    store = done.made["activations"]
    growing = tmp_path / "tiny" / "activations" / f".{store.name}.partial"
    two = ("extract.devices=2", "seed=0")

    def half() -> bool:
        return len(list(growing.glob("*.safetensors"))) > 5

    stopped = workplace.fork(tmp_path, "extract", *two, when=half)
    assert stopped.returncode == -signal.SIGKILL
    assert artifacts(tmp_path, "activations") == {}
    printed = said(workplace.fork(tmp_path, "extract", *two))
    assert "going on in 2 processes" in printed
    assert contents(only(tmp_path, "activations")) == contents(store)
    whole = only(tmp_path, "activations")
    read(whole, verify=True)
    # A kill between the last shard and the manifest: whoever comes late finds the store done.
    (whole / "manifest.json").unlink()
    whole.rename(growing)
    said(workplace.fork(tmp_path, "extract", *two))
    assert contents(only(tmp_path, "activations")) == contents(store)
    assert not growing.exists()


def test_processes_of_torchrun_write_the_store_of_one_and_speak_once(
    workplace: Workplace, done: Done, tmp_path: Path
):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, *workplace.command(tmp_path, "extract")[1:]]
    result = execute(command, workplace.home)
    assert said(result).count("extracting activations: ") < 3
    assert contents(only(tmp_path, "activations")) == contents(done.made["activations"])
    manifest = read_json(only(tmp_path, "activations") / "manifest.json")
    (run,) = (tmp_path / "tiny" / "runs" / "extract").glob("2*")
    found = json.loads((run / "metrics.json").read_text())["extract"]
    assert found["gigabytes"] * 1e9 == sum(one["bytes"] for one in manifest["files"].values())


@pytest.mark.long
def test_a_fault_in_one_of_several_processes_is_one_line(workplace: Workplace, tmp_path: Path):
    more = ("extract.devices=2", "model.context=4000", "corpus.context=4000")
    result = workplace.fork(tmp_path, "extract", *more)
    assert result.returncode == 1, result.stdout + result.stderr
    complaints = [line for line in result.stderr.splitlines() if line.startswith("config: ")]
    assert len(complaints) == 1, result.stderr
    assert "context=4000" in complaints[0]
    assert "Traceback" not in result.stderr
    assert artifacts(tmp_path, "activations") == {}


def test_an_int8_store_says_what_it_loses_and_trains(workplace: Workplace, tmp_path: Path):
    printed = said(workplace.fork(tmp_path, "extract", "store.dtype=int8"))
    assert printed.count("int8 loses") == 3
    lost = read_json(only(tmp_path, "activations") / "store.json")["fvu"]
    assert all(0 < fvu < 1e-3 for fvu in lost.values()), lost
    assert list(lost) == ["layer_0", "layer_1", "layer_2"]
    printed = said(workplace.fork(tmp_path, "train", "store.dtype=int8"))
    assert "found" in printed
    assert len(artifacts(tmp_path, "activations")) == 1
    rows = read_json(only(tmp_path, "saes") / "metrics.json")["hooks"]
    assert max(row["fvu"] for row in rows) < 0.9


def test_the_largest_batch_is_found_and_makes_the_same_store(
    workplace: Workplace, done: Done, tmp_path: Path
):
    printed = said(workplace.fork(tmp_path, "extract", "extract.batch_size=auto"))
    assert f"extract.batch_size=auto: {4096 // 48} windows fit" in printed
    assert only(tmp_path, "activations").name == done.made["activations"].name


def test_a_changed_byte_of_a_shard_is_named_when_it_is_looked_for(
    workplace: Workplace, tmp_path: Path
):
    said(workplace.fork(tmp_path, "extract"))
    shard = sorted(only(tmp_path, "activations").glob("train-*"))[1]
    with shard.open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        byte = file.read(1)
        file.seek(-5, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    assert "found" in said(workplace.fork(tmp_path, "extract"))
    result = workplace.fork(tmp_path, "extract", "verify=true")
    assert result.returncode == 1
    assert f"{shard}: SHA-256 is" in result.stderr


def test_the_format_of_products_is_part_of_what_a_models_activations_are():
    def ids(model: dict[str, str] | None) -> set[str]:
        stores = [store_config(products=one) for one in Products]
        return {artifact_id(store_identity({}, [0], store, 0, model)) for store in stores}

    assert len(ids({"weights": "some"})) == len(Products)
    assert len(ids(None)) == 1  # of ready-made ones nothing was multiplied
