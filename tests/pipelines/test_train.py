import csv
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from ghosttrack.artifacts import read
from ghosttrack.files import read_json
from sweep.logged import read_logged
from tests.support.commands import (
    DDP,
    PATIENCE_S,
    Workplace,
    artifacts,
    contents,
    environment,
    measured,
    only,
    resume_step,
    said,
    weights,
)
from tests.support.programs import Done
from tests.support.wandb_run import Lineage, read_run

pytestmark = pytest.mark.slow
OFFLINE = "tiny/runs/train/2*/wandb/offline-run-*/*.wandb"


def fvu(bank: Path) -> list[float]:
    return [row["fvu"] for row in measured(bank)]


@pytest.mark.long
def test_what_is_killed_goes_on_and_ends_as_if_undisturbed(
    workplace: Workplace, done: Done, tmp_path: Path
):
    store = done.made["activations"]
    growing = tmp_path / "tiny" / "activations" / f".{store.name}.partial"
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

    def past(step: int):
        """Once there is a resume point after a step."""
        return lambda: resume_step(tmp_path) > step

    stopped = workplace.fork(tmp_path, "train", when=past(0), how=signal.SIGINT)
    assert stopped.returncode == 130
    assert stopped.stderr.splitlines()[-1].startswith("interrupted: the same command goes on")
    where = random.randrange(resume_step(tmp_path), 60)
    stopped = workplace.fork(tmp_path, "train", when=past(where))
    assert stopped.returncode == -signal.SIGKILL
    assert artifacts(tmp_path, "saes") == {}
    # A kill between the last step and the end; how often one is saved is no part of a bank.
    late = ("train.checkpoint_every=1000",)
    stopped = workplace.fork(tmp_path, "train", *late, when=past(79))
    assert stopped.returncode == -signal.SIGKILL
    assert "going on from" in said(workplace.fork(tmp_path, "train"))
    assert contents(only(tmp_path, "saes")) == contents(done.made["saes"])
    read(only(tmp_path, "saes"), verify=True)


@pytest.mark.long
def test_a_signal_saves_the_step_it_comes_in_and_the_command_goes_on(
    workplace: Workplace, tmp_path: Path
):
    long = ("trainer.max_steps=400", "train.checkpoint_every=150")
    said(workplace.fork(tmp_path / "whole", "train", *long))
    bank = only(tmp_path / "whole", "saes")
    long = (*long, "logger=wandb", "trainer.log_every_n_steps=10")
    stopped = workplace.fork(
        *(tmp_path / "parts", "train", *long),
        when=lambda: resume_step(tmp_path / "parts") == 150,
        how=signal.SIGTERM,
    )
    step = resume_step(tmp_path / "parts")
    assert stopped.returncode == 128 + signal.SIGTERM
    assert 150 < step < 300
    assert stopped.stderr.splitlines() == [
        f"stopped by SIGTERM at step {step}: the same command goes on from there"
    ]
    points = (tmp_path / "parts").glob("tiny/saes/.*.partial/checkpoints/step-*")
    assert [one.name for one in points] == [f"step-{step}-of-1"]
    assert "going on from" in said(workplace.fork(tmp_path / "parts", "train", *long))
    assert contents(only(tmp_path / "parts", "saes")) == contents(bank)
    logged = [read_run(file) for file in sorted(tmp_path.glob(f"parts/{OFFLINE}"))]
    assert [run.run_id for run in logged] == 2 * [bank.name.split("-")[-1]]
    assert [run.exit_code for run in logged] == [1, 0]
    rows = [row for run in logged for row in run.history if "train/fvu_mean" in row]
    assert [row["trainer/global_step"] for row in rows] == list(range(9, 400, 10))


@pytest.mark.long  # a real SLURM is tested by default
def test_under_slurm_a_signal_also_queues_the_job_again(workplace: Workplace, tmp_path: Path):
    programs = tmp_path / "bin"
    programs.mkdir()
    scontrol = programs / "scontrol"
    scontrol.write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/asked\n")
    scontrol.chmod(0o755)
    slurm = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "18",
        "SLURM_ARRAY_JOB_ID": "17",
        "SLURM_ARRAY_TASK_ID": "3",
    }
    output = tmp_path / "out"
    job = subprocess.Popen(
        workplace.command(output, "train", "trainer.max_steps=100000"),
        cwd=workplace.home,
        env=environment(workplace.home) | slurm,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not resume_step(output):
        assert job.poll() is None
        time.sleep(0.01)
    job.send_signal(signal.SIGUSR1)
    complaints = job.communicate(timeout=PATIENCE_S)[1]
    assert job.returncode == 128 + signal.SIGTERM
    assert complaints.splitlines() == [
        f"stopped by SIGUSR1 at step {resume_step(output)}: the same command goes on from there"
    ]
    assert (tmp_path / "asked").read_text() == "requeue 17_3\n"


@pytest.mark.long  # ranks that equal one, and ranks in a SLURM sweep, are tested by default
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


@pytest.mark.long
def test_jobs_side_by_side_do_what_is_missing_and_their_table_says_which_failed(
    workplace: Workplace, done: Done, tmp_path: Path
):
    shutil.copytree(done.output, tmp_path, symlinks=True, dirs_exist_ok=True)
    joblib = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    sweep = workplace.run(tmp_path, "train", "-m", "sae.k=8,4,9999", *joblib)
    assert sweep.returncode == 1, sweep.stdout + sweep.stderr
    assert "1 of 3 sweep jobs failed" in sweep.stderr
    lines = [line.split() for line in sweep.stdout.splitlines()]
    assert {tuple(line[1:]) for line in lines if "built" in line or "found" in line} >= {
        ("found", str(only(done.output, "saes")).replace(str(done.output), str(tmp_path)))
    }
    (built,) = (Path(line[2]) for line in lines if line[1:2] == ["built"])
    assert read_json(built / "bank.json")["k"] == 4
    rows = {line[-1]: line[1] for line in lines if line[-1:] and line[-1].startswith("sae.k=")}
    assert rows == {"sae.k=8": "done", "sae.k=4": "done", "sae.k=9999": "FAILED"}
    folder = tmp_path / "tiny" / "sweeps" / "last"
    assert "sae.k must be in 1..sae.d_sae=64, got 9999" in (folder / "2" / "train.log").read_text()


def test_a_stream_trains_without_a_store_and_wandb_without_an_account(
    workplace: Workplace, done: Done, tmp_path: Path
):
    stream = ("train.source=stream", "train.buffer_tokens=4096")
    said(workplace.fork(tmp_path, "train", "logger=wandb", *stream))
    assert not (tmp_path / "tiny" / "activations").exists()
    bank = only(tmp_path, "saes")
    # Other batches than the store's, of the same text.
    assert fvu(bank) == pytest.approx(fvu(done.made["saes"]), abs=0.05)

    (file,) = tmp_path.glob(OFFLINE)
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
    assert run.tags == ("tiny", "topk", "d_sae=64", "k=8")
    assert len(run.panels) <= 40
    assert "heldout/dead_frac/layer_2" not in run.panels
    (corpus,) = artifacts(tmp_path, "corpora")
    assert set(run.config["made_from"]) == {"tiny", corpus}
    assert run.lineage == [Lineage("saes", bank.name, bank.as_uri())]
    (rows,) = [read_logged(folder) for folder in tmp_path.glob("tiny/runs/train/2*")]
    assert rows.series("train/fvu_mean")[1] == pytest.approx(curve)
    assert rows.series("heldout/fvu_mean")[1] == run.series("heldout/fvu_mean")
    assert not [one for one in workplace.home.iterdir() if one.name == "wandb"]
