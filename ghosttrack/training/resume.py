"""Resume points: whole or not there, and open to any number of ranks."""

import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor

from ghosttrack.errors import Preempted, whole
from ghosttrack.report.wandb import break_off
from ghosttrack.training.strategies import LayersStrategy

LAST = "last"
"""Link to the newest resume point, in the folder of all."""
REQUEUE = (signal.SIGUSR1, signal.SIGUSR2)
"""Sent by SLURM ahead of a job's end where `sbatch --signal=USR1@<seconds>` asks for it; the latter
is what submitit, behind `hydra/launcher=slurm`, asks for and takes."""

log = logging.getLogger(__name__)


class BankCheckpoints(TorchCheckpointIO):
    """Writes one file of a resume point, and reads the rows of `hooks` out of however many.

    Tensors of weights and of the optimiser have the hook points as their first axis, so that a run
    may go on with other ranks than it had: a rank finds its rows in the files of those before.
    """

    def __init__(self, hooks: Sequence[str]) -> None:
        self.hooks = list(hooks)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        """Write a file beside its place, then rename it."""
        part = Path(f"{path}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                torch.save({**checkpoint, "hooks": self.hooks}, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError):
            part.unlink()  # a full disk wants its room back
            raise
        part.replace(path)

    def load_checkpoint(
        self, path: str | Path, map_location: object = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a folder of files; little is read of those that hold none of `hooks`."""
        files = _files(Path(path), self.hooks)
        names = ("state_dict", "optimizer_states")
        return files[0].content | {name: _joined(files, name) for name in names}


class _File(NamedTuple):
    content: dict[str, Any]
    rows: list[int]
    """Those of the hook points that are asked for."""


def _files(point: Path, hooks: list[str]) -> list[_File]:
    files, found = [], []
    for path in sorted(point.glob("*.ckpt")):
        with whole(path):
            content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        rows = [row for row, hook in enumerate(content["hooks"]) if hook in hooks]
        found += [content["hooks"][row] for row in rows]
        files += [_File(content, rows)] if rows else []
    assert found == hooks, f"{point} holds {found}, not {hooks}"
    return files


def trained(point: Path, hooks: list[str]) -> dict[str, Tensor]:
    """Read the state of a bank out of a resume point, whichever ranks trained it."""
    state = _joined(_files(point, hooks), "state_dict")
    bank = "bank."
    return {name.removeprefix(bank): state[name] for name in state if name.startswith(bank)}


def _joined(files: list[_File], name: str) -> Any:  # noqa: ANN401 (a nested state)
    """Join the rows of a state's tensors, wherever in it they stand.

    Their strides stay: a fused optimiser reads moments in the order of the parameter's memory.
    """

    def join(parts: list[Any]) -> Any:  # noqa: ANN401
        first = parts[0]
        if isinstance(first, Tensor) and first.ndim:
            order = sorted(range(first.ndim), key=first.stride, reverse=True)
            pairs = zip(parts, files, strict=True)
            rows = torch.cat([part.permute(order)[file.rows] for part, file in pairs])
            return rows.permute([order.index(axis) for axis in range(first.ndim)])
        if isinstance(first, dict):
            return {key: join([part[key] for part in parts]) for key in first}
        if isinstance(first, list):
            return [join(list(items)) for items in zip(*parts, strict=True)]
        return first

    return join([file.content[name] for file in files])


class ResumePoints(Checkpoint):
    """Saves every so many steps, after the last, and when a signal says that the process must go.

    A resume point is a folder of one file per rank that has a state of its own. When all are
    written the link `last` is moved to it, which no kill can do by half; only then older ones go.

    SIGTERM ends the run at the end of a step, on all ranks if any was told; under SLURM so do
    SIGUSR1 and SIGUSR2, and the job is queued again. On a GPU ranks ask each other only at steps
    that log, as an answer makes the device wait.

    Args:
        folder: Of the resume points.
        every: Steps between two.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self.folder, self.every = folder, every
        self.received: signal.Signals | None = None
        self.submitit: Callable[[int, FrameType | None], object] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals from Lightning, whose handlers act in the middle of a step.

        It puts back, when training ends, what was there before.
        """
        if os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
            handler = signal.getsignal(signal.SIGUSR2)
            self.submitit = handler if callable(handler) else None
        for number in [signal.SIGTERM, *(REQUEUE if "SLURM_JOB_ID" in os.environ else [])]:
            signal.signal(number, self._receive)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Save when it is time; end the run if it was asked to.

        Raises:
            Preempted: After saving.
        """
        step = trainer.global_step
        must_go = self._must_go(trainer)
        if must_go or step % self.every == 0 or step == trainer.max_steps:
            self._save(trainer)
        if must_go:
            break_off(is_preempted=True)  # its service ends with the job
            again = trainer.strategy.reduce_boolean_decision(self.received in REQUEUE, all=False)
            if again and trainer.is_global_zero:
                self._requeue()
            name = "SIGTERM" if self.received is None else self.received.name
            raise Preempted(f"{name} at step {step}")

    def _receive(self, number: int, _: object) -> None:
        if self.received not in REQUEUE:  # SIGTERM may come with it
            self.received = signal.Signals(number)

    def _requeue(self) -> None:
        """Queue this job again, by submitit's own bound and bookkeeping where it started it."""
        if self.submitit is None:
            _requeue()
            return
        with suppress(SystemExit):
            self.submitit(signal.SIGUSR2, None)

    def _must_go(self, trainer: pl.Trainer) -> bool:
        every = trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
        if trainer.strategy.root_device.type != "cpu" and trainer.global_step % every:
            return False
        return trainer.strategy.reduce_boolean_decision(self.received is not None, all=False)

    def _save(self, trainer: pl.Trainer) -> None:
        n_files = trainer.world_size if isinstance(trainer.strategy, LayersStrategy) else 1
        point = self.folder / f"step-{trainer.global_step}-of-{n_files}"
        trainer.save_checkpoint(point / f"{trainer.global_rank:05d}.ckpt")  # waits for all ranks
        if trainer.is_global_zero:
            link = self.folder / f".{LAST}"
            link.unlink(missing_ok=True)
            link.symlink_to(point.name)
            link.replace(self.folder / LAST)
            for old in set(self.folder.glob("step-*")) - {point}:
                shutil.rmtree(old)


def _requeue() -> None:
    """Queue this SLURM job again; SLURM ends it."""
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{task}" if task else os.environ["SLURM_JOB_ID"]
    result = subprocess.run(
        ["scontrol", "requeue", job], capture_output=True, text=True, check=False
    )
    if result.returncode:
        log.warning("scontrol requeue %s failed: %s", job, result.stderr.strip())
