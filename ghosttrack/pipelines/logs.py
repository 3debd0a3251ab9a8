"""Loggers and progress of training and of evaluations."""

import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from pytorch_lightning.callbacks import Callback, RichProgressBar
from pytorch_lightning.loggers import Logger, WandbLogger

from ghosttrack.config import TrainProgram
from ghosttrack.data.progress import LOG_EVERY_S
from ghosttrack.errors import ConfigError
from ghosttrack.pipelines.run import Run, plain
from ghosttrack.report.wandb import check_online, close, quiet

log = logging.getLogger(__name__)


def check_logger(config: TrainProgram) -> None:
    """Fail before the expensive stages if the logger cannot work.

    Raises:
        ConfigError: W&B is to be online, but there is no key or no server.
    """
    if config.logger["_target_"].endswith("WandbLogger") and not config.logger["offline"]:
        check_online()


def make_logger(config: TrainProgram, run: Run, job_type: str, folder: Path) -> Logger:
    """Make the logger of a run; W&B writes offline unless `logger.offline=false`.

    Args:
        config: Goes to the logger once, as it was composed.
        run: Its folder takes the logger's files.
        job_type: `train` or `detect`.
        folder: Of the artefact in the making; its id is the W&B run's too, so that a resumed run
            goes on in the same one.
    """
    run_id = folder.name.removesuffix(".partial").rsplit("-", 1)[-1]
    settings: dict[str, Any] = {"save_dir": str(run.folder)}
    if config.logger["_target_"].endswith("WandbLogger"):
        offline = config.logger["offline"]
        settings |= {
            "id": run_id,
            "name": f"{job_type}-{config.model.name}-{run_id}",
            "job_type": job_type,
            "settings": quiet(offline=offline),
            "group": run.group,
            "tags": [config.model.name, f"d_sae={config.sae.d_sae}", f"k={config.sae.k}"],
        }
    try:
        logger: Logger = instantiate(config.logger, **settings)
    except InstantiationException as error:
        raise ConfigError(f"logger: {str(error.__cause__ or error).splitlines()[0]}") from error
    logger.log_hyperparams(plain(config))
    return logger


def close_logger(logger: Logger) -> None:
    """End the logger's run, so that a later one in this process begins its own."""
    logger.finalize("success")
    if isinstance(logger, WandbLogger):
        close()


def progress() -> tuple[Callback, bool]:
    """Return a progress bar on a terminal, log lines elsewhere; and whether it is a bar."""
    is_bar = sys.stderr.isatty()
    return (RichProgressBar() if is_bar else LogLines()), is_bar


def quieten_lightning() -> None:
    """Keep Lightning to its warnings, less one about its own code."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")


class LogLines(Callback):
    """One line every few seconds: step, tokens per second, time left, the worst FVU."""

    def __init__(self) -> None:
        self.started = self.logged = time.monotonic()
        self.first_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started = self.logged = time.monotonic()
        self.first_step = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Log when it is time, and at the last step."""
        now, last = time.monotonic(), trainer.global_step == trainer.max_steps
        if not trainer.is_global_zero or (now - self.logged < LOG_EVERY_S and not last):
            return
        self.logged = now
        speed = (trainer.global_step - self.first_step) / (now - self.started)
        left = (trainer.max_steps - trainer.global_step) / max(speed, 1e-9)
        numbers = trainer.progress_bar_metrics
        shown = ", ".join(f"{name} {float(value):.4g}" for name, value in numbers.items())
        log.info(
            "training: step %d of %d, %.0f s left, %s",
            *(trainer.global_step, trainer.max_steps, left, shown),
        )
