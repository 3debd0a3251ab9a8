import os
import shutil
import signal
import threading
from collections import namedtuple
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from ghosttrack.errors import ConfigError, Preempted
from ghosttrack.sae.lit import LitBank
from ghosttrack.training import resume
from ghosttrack.training.resume import BankCheckpoints, ResumePoints, trained
from ghosttrack.training.trainer import TrainingBudget, check_room
from tests.sae.support import activations, sae_config, small_bank
from tests.sae.test_lit import STEPS, Loader

HOOKS = ["layer_0", "layer_2", "layer_5"]


class Unwritable:
    """Stands for a process that ends in the middle of writing."""

    def __reduce__(self):
        raise KeyboardInterrupt


def state(first: int, n_hooks: int) -> dict[str, object]:
    """What a rank keeps that trains some hook points; a row of any tensor tells whose it is."""
    rows = torch.arange(first, first + n_hooks, dtype=torch.float32)
    transposed = rows[:, None, None].repeat(1, 3, 2).mT
    moments = {"step": torch.tensor(7.0), "exp_avg": transposed}
    return {
        "global_step": 7,
        "state_dict": {"bank.b_enc": rows[:, None].clone(), "loss.silent": rows.clone()},
        "optimizer_states": [{"state": {0: moments}, "param_groups": [{"params": [0]}]}],
        "rng_state": torch.arange(16, dtype=torch.uint8),
    }


def write(point: Path, shares: list[list[str]]) -> None:
    first = 0
    for rank, hooks in enumerate(shares):
        checkpoint = state(first, len(hooks))
        checkpoints = BankCheckpoints(hooks)
        checkpoints.save_checkpoint(checkpoint, point / f"{rank:05d}.ckpt")
        checkpoints.finish()
        first += len(hooks)


def test_a_file_that_is_not_written_to_its_end_leaves_the_one_before(tmp_path: Path):
    path = tmp_path / "step-5-of-1" / "00000.ckpt"
    checkpoints = BankCheckpoints(HOOKS)
    checkpoints.save_checkpoint(state(0, 3), path)
    checkpoints.save_checkpoint({**state(1, 3), "rest": Unwritable()}, path)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.finish()
    assert checkpoints.load_checkpoint(path.parent)["state_dict"]["loss.silent"][0] == 0
    checkpoints.save_checkpoint(state(1, 3), path)
    checkpoints.finish()
    assert checkpoints.load_checkpoint(path.parent)["state_dict"]["loss.silent"][0] == 1
    assert [file.name for file in path.parent.iterdir()] == ["00000.ckpt"]


@pytest.mark.parametrize(
    "before",
    [[HOOKS], [HOOKS[:2], HOOKS[2:]], [HOOKS[:1], HOOKS[1:2], HOOKS[2:]]],
    ids=["one file", "two", "three"],
)
@pytest.mark.parametrize(
    ("mine", "rows"), [(HOOKS, [0, 1, 2]), (HOOKS[1:], [1, 2]), (HOOKS[1:2], [1])]
)
def test_a_rank_finds_its_rows_whatever_ranks_there_were(tmp_path: Path, before, mine, rows):
    write(tmp_path, before)
    found = BankCheckpoints(mine).load_checkpoint(tmp_path)
    optimiser = found["optimizer_states"][0]
    assert found["state_dict"]["loss.silent"].tolist() == rows
    assert optimiser["state"][0]["exp_avg"][:, 0, 0].tolist() == rows
    assert optimiser["state"][0]["exp_avg"].shape == (len(rows), 2, 3)
    assert optimiser["state"][0]["exp_avg"].stride() == (6, 1, 2)
    assert optimiser["state"][0]["step"] == 7
    assert optimiser["param_groups"] == [{"params": [0]}]
    assert found["global_step"] == 7
    assert torch.equal(found["rng_state"], torch.arange(16, dtype=torch.uint8))
    assert {name: b.tolist() for name, b in trained(tmp_path, mine).items()} == {
        "b_enc": [[row] for row in rows]
    }


def test_a_resume_point_of_other_hook_points_is_not_taken(tmp_path: Path):
    write(tmp_path, [HOOKS[:2]])
    with pytest.raises(AssertionError, match="layer_5"):
        BankCheckpoints(HOOKS).load_checkpoint(tmp_path)


def train(points: ResumePoints, *callbacks: pl.Callback, fails_at: int | None = None) -> LitBank:
    """Train a small bank, from the last resume point where there is one."""
    trainer = pl.Trainer(
        **{"accelerator": "cpu", "devices": 1, "max_steps": STEPS, "min_steps": 1},
        **{"logger": False, "enable_progress_bar": False, "enable_model_summary": False},
        callbacks=[points, *callbacks],
        use_distributed_sampler=False,
        log_every_n_steps=4,
    )
    lit = LitBank(small_bank(), sae_config(dead_after_tokens=300), STEPS)
    trainer.strategy.checkpoint_io = BankCheckpoints(lit.bank.hooks)
    step = lit.loss.forward

    def forward(bank, x):
        if trainer.global_step == fails_at:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return step(bank, x)

    lit.loss.forward = forward
    last = points.folder / resume.LAST
    trainer.fit(lit, Loader(activations(4000)), ckpt_path=last if last.exists() else None)
    return lit


class Then(pl.Callback):
    """Does something after a step."""

    def __init__(self, step: int, what) -> None:
        self.step, self.what = step, what

    def on_train_batch_end(self, trainer, *_) -> None:
        if trainer.global_step == self.step:
            self.what()


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
class TestTraining:
    """What Lightning says of worker counts and mid-epoch resume is none of ours."""

    def test_a_step_without_memory_loses_none_of_those_before(self, tmp_path: Path):
        whole = train(ResumePoints(tmp_path / "whole", 10))
        with pytest.raises(torch.cuda.OutOfMemoryError):
            train(ResumePoints(tmp_path / "parts", 10), fails_at=13)
        assert (tmp_path / "parts" / resume.LAST).resolve().name == "step-13-of-1"
        resumed = train(ResumePoints(tmp_path / "parts", 10))
        for name, tensor in whole.state_dict().items():
            assert torch.equal(tensor, resumed.state_dict()[name]), name

    def test_a_signal_saves_its_step_queues_the_job_again_and_the_run_goes_on(
        self, tmp_path: Path, monkeypatch
    ):
        whole = train(ResumePoints(tmp_path / "whole", 10))
        scontrol = tmp_path / "scontrol"
        scontrol.write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/asked\n")
        scontrol.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        job = {"JOB_ID": "18", "ARRAY_JOB_ID": "17", "ARRAY_TASK_ID": "3"}
        for name, value in job.items():
            monkeypatch.setenv(f"SLURM_{name}", value)
        signalled = Then(13, lambda: signal.raise_signal(signal.SIGUSR1))
        with pytest.raises(Preempted, match=r"^SIGUSR1 at step 13$"):
            train(ResumePoints(tmp_path / "parts", 10), signalled)
        assert (tmp_path / "asked").read_text() == "requeue 17_3\n"
        assert [one.name for one in (tmp_path / "parts").glob("step-*")] == ["step-13-of-1"]
        resumed = train(ResumePoints(tmp_path / "parts", 10))
        for name, tensor in whole.state_dict().items():
            assert torch.equal(tensor, resumed.state_dict()[name]), name

    def test_a_resume_point_is_written_beside_the_steps_after_it(self, tmp_path: Path, monkeypatch):
        later, write, held = threading.Event(), resume._write, {}

        def slowly(checkpoint, path, then):
            assert later.wait(60), "training waits for the file"
            held[path.parent.name] = checkpoint
            write(checkpoint, path, then)

        monkeypatch.setattr(resume, "_write", slowly)
        lit = train(ResumePoints(tmp_path, 10), Then(14, later.set))
        assert sorted(held) == ["step-10-of-1", "step-20-of-1", "step-24-of-1"]
        early, late = (held[f"step-{step}-of-1"]["state_dict"] for step in (10, 24))
        assert torch.equal(late["bank.W_dec"], lit.bank.W_dec)
        assert not torch.equal(early["bank.W_dec"], late["bank.W_dec"])
        assert held["step-10-of-1"]["global_step"] == 10
        assert [one.name for one in tmp_path.glob("step-*")] == ["step-24-of-1"]

    def test_resume_points_come_by_time(self, tmp_path: Path, monkeypatch):
        clock, saved = [0.0], []
        monkeypatch.setattr(resume.time, "monotonic", lambda: clock[0])
        monkeypatch.setattr(ResumePoints, "_save", lambda self, trainer: _note(self, trainer))

        def _note(self, trainer):
            saved.append(trainer.global_step)
            self.saved = trainer.global_step, clock[0]

        class Clock(pl.Callback):
            def on_train_batch_start(self, *_) -> None:
                clock[0] += 30.0

        points = ResumePoints(tmp_path, None, minutes=2.0)
        monkeypatch.setattr(points, "_finish", lambda _: None)
        train(points, Clock())
        assert saved == [5, 10, 15, 20, 24]


def test_a_disk_without_room_for_two_resume_points_is_refused(tmp_path: Path, monkeypatch):
    bank = TrainingBudget(32, d_model=2560, d_sae=10240)  # phi-2's
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(30 * 10**9))
    with pytest.raises(ConfigError, match=r"^output_root: two resume points of 20.1 GB .* 30.0 GB"):
        check_room(tmp_path / "checkpoints", bank)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(41 * 10**9))
    check_room(tmp_path / "checkpoints", bank)
