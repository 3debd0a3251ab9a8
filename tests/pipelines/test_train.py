import csv
import json
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ghosttrack.artifacts import read, read_json
from tests.pipelines.commands import DDP, Workplace, artifacts, contents, only, said
from tests.pipelines.conftest import Done
from tests.support.wandb_reader import read_run

pytestmark = pytest.mark.slow


def weights(bank: Path) -> dict[str, torch.Tensor]:
    return {
        f"{file.parent.name}/{name}": tensor
        for file in sorted(bank.glob("layer_*/sae_weights.safetensors"))
        for name, tensor in load_file(file).items()
    }


def fvu(bank: Path) -> list[float]:
    return [hook["fvu"] for hook in read_json(bank / "metrics.json")["hooks"]]


def partial(output: Path, kind: str, name: str) -> Path:
    """The folder in which an artefact of this name grows."""
    return output / "tiny" / kind / f".{name}.partial"


def test_what_is_killed_goes_on_and_ends_as_if_undisturbed(
    workplace: Workplace, done: Done, tmp_path: Path
):
    store = done.made["activations"]
    growing = partial(tmp_path, "activations", store.name)
    last = sorted(file.name for file in store.glob("train-*.safetensors"))[-1]
    third = growing / "train-00002.safetensors"
    assert workplace.fork(tmp_path, "extract", when=third.is_file).returncode == -signal.SIGKILL
    assert artifacts(tmp_path, "activations") == {}
    assert not (growing / last).is_file()
    kept = {file.name: file.stat().st_mtime_ns for file in growing.glob("train-*.safetensors")}
    assert len(kept) >= 3
    said(workplace.fork(tmp_path, "extract"))
    again = only(tmp_path, "activations")
    assert contents(again) == contents(store)
    assert {name: (again / name).stat().st_mtime_ns for name in kept} == kept

    bank = done.made["saes"]
    checkpoint = partial(tmp_path, "saes", bank.name) / "checkpoint" / "last.ckpt"

    def when_written():
        """Once there is a checkpoint, or another than there was."""
        before = checkpoint.stat().st_mtime_ns if checkpoint.is_file() else 0
        return lambda: checkpoint.is_file() and checkpoint.stat().st_mtime_ns != before

    stopped = workplace.fork(tmp_path, "train", when=when_written(), how=signal.SIGINT)
    assert stopped.returncode == 130
    assert stopped.stderr.splitlines()[-1].startswith("interrupted: the same command goes on")
    stopped = workplace.fork(tmp_path, "train", when=when_written())
    assert stopped.returncode == -signal.SIGKILL
    assert artifacts(tmp_path, "saes") == {}
    # A kill between the last step and the end; how often one is written is no part of a bank.
    late = ("train.checkpoint_every=80",)
    stopped = workplace.fork(tmp_path, "train", *late, when=when_written())
    assert stopped.returncode == -signal.SIGKILL
    assert "going on from" in said(workplace.fork(tmp_path, "train"))
    assert contents(only(tmp_path, "saes")) == contents(bank)
    read(only(tmp_path, "saes"), verify=True)


def test_two_processes_train_the_same_bank_as_one_also_in_a_sweep(
    workplace: Workplace, done: Done, tmp_path: Path
):
    printed = said(workplace.run(tmp_path, "train", "-m", "sae.k=4,8", *DDP))
    assert printed.count("MEMBER: 2/2") == 2
    banks = artifacts(tmp_path, "saes")
    one = done.made["saes"]
    two = banks[one.name]  # the same id: how many processes trained it is no part of a bank
    assert fvu(two) == pytest.approx(fvu(one), abs=1e-4)
    for name, tensor in weights(one).items():
        # The order in which gradients are summed differs; Adam magnifies that where one is near 0.
        torch.testing.assert_close(weights(two)[name], tensor, atol=1e-3, rtol=0, msg=name)

    (sweep,) = (tmp_path / "tiny" / "sweeps").iterdir()
    jobs = [job for job in sorted(sweep.iterdir()) if job.is_dir()]
    assert [job.name for job in jobs] == ["0", "1"]
    for job, k in zip(jobs, (4, 8), strict=True):
        assert json.loads((job / "status.json").read_text())["exit"] == 0
        bank = Path(read_json(job / "metrics.json")["train"]["bank"])
        assert read_json(bank / "bank.json")["k"] == k
        assert read(bank).manifest["identity"]["sae"]["k"] == k
        assert f"sae.k={k}" in (job / ".hydra" / "overrides.yaml").read_text()
        (log,) = job.rglob("metrics.csv")
        with log.open() as file:
            assert max(int(row["step"]) for row in csv.DictReader(file)) == 80
    assert sorted(bank.name.split("-")[2] for bank in banks.values()) == ["4", "8"]
    assert not (tmp_path / "tiny" / "runs").exists()  # rank 1 made no run of its own


def test_a_stream_trains_without_a_store_and_wandb_without_an_account(
    workplace: Workplace, done: Done, tmp_path: Path
):
    stream = ("train.source=stream", "train.buffer_tokens=4096")
    said(workplace.fork(tmp_path, "train", "logger=wandb", *stream))
    assert not (tmp_path / "tiny" / "activations").exists()
    bank = only(tmp_path, "saes")
    # Other batches than the store's, of the same text.
    assert fvu(bank) == pytest.approx(fvu(done.made["saes"]), abs=0.05)

    (file,) = tmp_path.glob("tiny/runs/train/*/wandb/offline-run-*/*.wandb")
    run = read_run(file)
    assert run.run_id == bank.name.split("-")[-1]
    assert run.job_type == "train"
    assert run.exit_code == 0
    assert run.config["sae"]["k"] == 8
    curve = run.series("train/fvu_mean")
    assert len(curve) == 8
    assert curve[-1] < curve[0]
    assert run.series("heldout/fvu_mean") == [pytest.approx(sum(fvu(bank)) / 3)]
    assert run.series("heldout/dead_frac/layer_2")
    assert not [one for one in workplace.home.iterdir() if one.name == "wandb"]
