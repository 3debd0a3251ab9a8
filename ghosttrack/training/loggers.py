"""Loggers of training and of evaluations: a CSV file always, and what `logger` names beside it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from torch import Tensor

from ghosttrack.config import TrainProgram
from ghosttrack.errors import ConfigError
from ghosttrack.memory import used_bytes
from ghosttrack.processes import place
from ghosttrack.run import Run, plain
from ghosttrack.training.progress import AfterStep
from ghosttrack.wandb_client import (
    Reference,
    WandbError,
    break_off,
    close,
    drop_empty,
    is_switched_off,
    log_lineage,
    quiet,
)
from ghosttrack.world.facts import FOLDER

LONGEST_TAG = 64
"""More characters W&B refuses."""


def make_loggers(config: TrainProgram, run: Run, job_type: str, folder: Path) -> list[Logger]:
    """Make the loggers of a run; W&B writes offline unless `logger.offline=false`.

    Args:
        config: Goes to each once, as it was composed.
        run: Its folder takes their files.
        job_type: `train` or `detect`.
        folder: Of the artefact in the making; its id is the W&B run's too, so that a resumed run
            goes on in the same one.
    """
    settings: dict[str, Any] = {"save_dir": str(run.folder)}
    if _is_wandb(config):
        settings |= _wandb_settings(config, run, job_type, _final(folder).name.rsplit("-", 1)[-1])
    else:
        settings["flush_logs_every_n_steps"] = 1
    try:
        loggers: list[Logger] = []
        if config.names_wandb:
            loggers.append(CSVLogger(run.folder, flush_logs_every_n_steps=1))
        if _is_wandb(config) or not config.names_wandb:
            loggers.append(instantiate(config.logger, **settings))
        for logger in loggers:
            logger.log_hyperparams(plain(config))
            if isinstance(logger, WandbLogger) and place().rank == 0:
                run.logs.append(Path(logger.experiment.dir).parent.name)
    except (InstantiationException, WandbError) as error:
        raise ConfigError(f"logger: {str(error.__cause__ or error).splitlines()[0]}") from error
    return loggers


def _is_wandb(config: TrainProgram) -> bool:
    """Tell whether W&B is to log: where its own settings switch it off, the CSV file is all."""
    return config.names_wandb and not is_switched_off()


def _wandb_settings(config: TrainProgram, run: Run, job_type: str, run_id: str) -> dict[str, Any]:
    if place().rank == 0:  # the first's new run is as empty to the others
        drop_empty(Path(config.output_root), run_id)
    return {
        "id": run_id,
        "name": f"{job_type}-{config.model.name}-{run_id}",
        "job_type": job_type,
        "settings": quiet(offline=config.logger["offline"]),
        "group": run.group,
        "tags": [tag[:LONGEST_TAG] for tag in (config.model.name, *config.examined)],
    }


def close_loggers(loggers: Sequence[Logger], config: TrainProgram, run: Run, folder: Path) -> None:
    """End the loggers' run, so that a later one in this process begins its own.

    W&B is told what the artefact in `folder`, which is in the making, was made from.
    """
    for logger in loggers:
        logger.finalize("success")
        if isinstance(logger, WandbLogger):
            used = [_reference(one.path) for one in run.kept]
            log_lineage(logger, [*_model(config), *used], _reference(_final(folder)))
            close()


@contextmanager
def kept_log() -> Iterator[None]:
    """Keep what W&B was told also of what fails or is interrupted.

    What submitit ends leaves at once, with all its processes.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt):
        break_off(is_preempted=False)
        raise


def _final(folder: Path) -> Path:
    """Undo what `artifacts.build` calls a folder in the making."""
    return folder.with_name(folder.name.removeprefix(".").removesuffix(".partial"))


def _reference(folder: Path) -> Reference:
    return Reference(folder.parent.name, folder.name, folder.resolve().as_uri())


def _model(config: TrainProgram) -> list[Reference]:
    """Name the model, where one was asked that is no artefact of its own."""
    model = config.model
    if model.world is not None or not config.runs_model:
        return []
    named = model.path or model.hub
    if named is not None and not Path(named).is_dir():
        return [Reference("models", model.name, f"https://huggingface.co/{named}")]
    return [Reference("models", model.name, Path(named or FOLDER).resolve().as_uri())]


class MachineUsage(AfterStep):
    """Writes into the CSV file, at steps that log, what training takes of the machine.

    W&B measures that by itself.
    """

    def __init__(self) -> None:
        self.since = time.monotonic(), time.process_time()

    def after_step(self, trainer: pl.Trainer) -> None:
        """Measure when the step has logged."""
        if trainer.global_step % trainer.log_every_n_steps:  # pyright: ignore[reportAttributeAccessIssue]
            return
        (then, busy), now = self.since, (time.monotonic(), time.process_time())
        self.since = now
        found: dict[str, float | Tensor] = {
            "machine/cpu_percent": 100 * (now[1] - busy) / (now[0] - then),
            "machine/memory_mb": used_bytes() / 1e6,
        }
        if torch.cuda.is_initialized():
            found["machine/gpu_memory_mb"] = torch.cuda.memory_allocated() / 1e6
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):
                logger.log_metrics(found, step=trainer.global_step - 1)
