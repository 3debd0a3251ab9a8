"""Resume points: whole or not there, and open to any number of ranks."""

import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor

from ghosttrack.data.datamodule import TrainBatches
from ghosttrack.data.forward import is_out_of_memory
from ghosttrack.errors import Preempted, whole
from ghosttrack.files import LAST, link_last
from ghosttrack.training.progress import AfterStep
from ghosttrack.training.strategies import RanksStrategy
from ghosttrack.wandb_client import break_off

REQUEUE = (signal.SIGUSR1, signal.SIGUSR2)
"""Sent by SLURM ahead of a job's end where `sbatch --signal=USR1@<seconds>` asks for it; the latter
is what submitit, behind `hydra/launcher=slurm`, asks for and takes."""

log = logging.getLogger(__name__)


class BankCheckpoints(TorchCheckpointIO):
    """Writes one file of a resume point, and reads the rows of `hooks` out of however many.

    Tensors of weights and of the optimiser have the hook points as their first axis, so that a run
    may go on with other ranks than it had: a rank finds its rows in the files of those before.

    A file is written by a thread, from a copy in the host's memory, while training goes on.

    Args:
        hooks: Those of the bank at hand.
        owned: Those of them that this rank keeps, and whose moments it has; None: all.
    """

    def __init__(self, hooks: Sequence[str], owned: slice | None = None) -> None:
        self.hooks = list(hooks)
        self.owned = owned or slice(0, len(hooks))
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="resume-points")
        self._writing: Future[None] | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        """Copy what is kept, and let it be written; what failed of the file before is raised.

        `storage_options` is called when the file is there.
        """
        self.finish()
        state, hooks = checkpoint["state_dict"], self.hooks[self.owned]
        mine = {name: one[self.owned] if one.ndim else one for name, one in state.items()}
        held = _on_host({**checkpoint, "state_dict": mine, "hooks": hooks})
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        then = cast("Callable[[], None] | None", storage_options)
        self._writing = self._pool.submit(_write, held, Path(path), then)

    def finish(self) -> None:
        """Wait until nothing is being written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def load_checkpoint(
        self, path: str | Path, map_location: object = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a folder of files; little is read of those that hold none of `hooks`."""
        files = _files(Path(path), self.hooks)
        own = _files(Path(path), self.hooks[self.owned]) or [files[0]._replace(rows=[])]
        read = (("state_dict", files), ("optimizer_states", own))
        return files[0].content | {name: _joined(some, name) for name, some in read}


def _on_host(value: Any) -> Any:  # noqa: ANN401 (whatever a checkpoint holds)
    """Copy the tensors; those of a GPU beside what it does, into memory that is pinned."""
    if isinstance(value, Tensor):
        held = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
        return held.copy_(value, non_blocking=True)
    if isinstance(value, dict):
        return {key: _on_host(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_on_host(one) for one in value]
    return value


def _write(checkpoint: dict[str, Any], path: Path, then: Callable[[], None] | None) -> None:
    """Write a file beside its place, rename it, and say so."""
    part = Path(f"{path}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        with part.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError):
        part.unlink()  # a full disk wants its room back
        raise
    part.replace(path)
    if then is not None:
        then()


def publish(point: Path, n_files: int) -> None:
    """Move the link to a resume point when the last of its files is there; older ones go then."""
    if len(list(point.glob("*.ckpt"))) < n_files:
        return
    link_last(point)
    for other in point.parent.glob("step-*"):
        if _step(other) < _step(point):
            shutil.rmtree(other, ignore_errors=True)  # another rank may be at it


def _step(point: Path) -> int:
    return int(point.name.split("-")[1])


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


class ResumePoints(AfterStep, Checkpoint):
    """Saves every so many steps or minutes, after the last, and when the process must go.

    A resume point is a folder of one file per rank that has a state of its own. When the last one
    is written the link `last` is moved to it, which no kill can do by half; only then older ones
    go.

    SIGTERM ends the run at the end of a step, on all ranks if any was told; under SLURM so do
    SIGUSR1 and SIGUSR2, and the job is queued again. On a GPU ranks ask each other only at steps
    that log, as an answer makes the device wait. A process that runs out of memory saves the last
    step that it finished, if it is alone.

    Args:
        every: Steps between two; None: none by steps.
        minutes: Between two; None: none by time.
    """

    def __init__(self, folder: Path, every: int | None, minutes: float | None = None) -> None:
        self.folder, self.every, self.minutes = folder, every, minutes
        self.saved = 0, time.monotonic()
        self.received: signal.Signals | None = None
        self.submitit: Callable[[int, FrameType | None], object] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals from Lightning, whose handlers act in the middle of a step.

        It puts back, when training ends, what was there before. What an earlier process left of
        resume points that it did not finish goes.
        """
        self.saved = trainer.global_step, time.monotonic()
        if trainer.is_global_zero:
            last = self.folder / LAST
            for point in self.folder.glob("step-*"):
                if not last.exists() or point.name != last.resolve().name:
                    shutil.rmtree(point)
        trainer.strategy.barrier()
        if os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
            handler = signal.getsignal(signal.SIGUSR2)
            self.submitit = handler if callable(handler) else None
        for number in [signal.SIGTERM, *(REQUEUE if "SLURM_JOB_ID" in os.environ else [])]:
            signal.signal(number, self._receive)

    def after_step(self, trainer: pl.Trainer) -> None:
        """Save when it is time; end the run if it was asked to.

        Raises:
            Preempted: After saving.
        """
        step, is_late = trainer.global_step, False
        if self._may_ask(trainer):
            late = self.minutes is not None and time.monotonic() - self.saved[1] > 60 * self.minutes
            is_late = _any(trainer, late or self.received is not None)
        must_go = is_late and _any(trainer, self.received is not None)
        if is_late or step == trainer.max_steps or (self.every and step % self.every == 0):
            self._save(trainer)
        if must_go or step == trainer.max_steps:
            self._finish(trainer)
        if must_go:
            break_off(is_preempted=True)  # its service ends with the job
            again = _any(trainer, self.received in REQUEUE)
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

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Keep the steps since the last resume point, where the next one has no memory."""
        step = trainer.global_step
        is_memory = isinstance(exception, RuntimeError) and is_out_of_memory(exception)
        if not is_memory or trainer.world_size > 1 or step == self.saved[0]:
            return
        counts = [int(one["step"]) for one in trainer.optimizers[0].state.values()]
        if any(count != step for count in counts):  # weights may have moved in part
            return
        loader = cast("TrainBatches", trainer.train_dataloader)
        loader.step = step  # the batch of the step that failed has been handed out
        self._save(trainer)
        self._finish(trainer)

    @staticmethod
    def _may_ask(trainer: pl.Trainer) -> bool:
        every = trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
        return trainer.strategy.root_device.type == "cpu" or trainer.global_step % every == 0

    def _point(self, trainer: pl.Trainer) -> tuple[Path, int]:
        """Name the resume point of this step, and count its files."""
        n_files = trainer.world_size if isinstance(trainer.strategy, RanksStrategy) else 1
        return self.folder / f"step-{trainer.global_step}-of-{n_files}", n_files

    def _save(self, trainer: pl.Trainer) -> None:
        """Begin to write a resume point."""
        point, n_files = self._point(trainer)
        self.saved = trainer.global_step, time.monotonic()
        path = point / f"{trainer.global_rank:05d}.ckpt"
        trainer.save_checkpoint(path, storage_options=partial(publish, point, n_files))

    def _finish(self, trainer: pl.Trainer) -> None:
        """Wait for the files of all ranks."""
        cast("BankCheckpoints", trainer.strategy.checkpoint_io).finish()
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            publish(*self._point(trainer))  # a shared disk may have shown a rank's file late
        trainer.strategy.barrier()


def _any(trainer: pl.Trainer, mine: bool) -> bool:
    return trainer.strategy.reduce_boolean_decision(mine, all=False)


def _requeue() -> None:
    """Queue this SLURM job again; SLURM ends it."""
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{task}" if task else os.environ["SLURM_JOB_ID"]
    result = subprocess.run(
        ["scontrol", "requeue", job], capture_output=True, text=True, check=False
    )
    if result.returncode:
        log.warning("scontrol requeue %s failed: %s", job, result.stderr.strip())
