"""Loggers and progress of training and of evaluations."""

import logging
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from pytorch_lightning.callbacks import Callback, RichProgressBar
from pytorch_lightning.loggers import Logger, WandbLogger

from ghosttrack.config import DetectProgram, TrainProgram
from ghosttrack.data.config import CorpusKind
from ghosttrack.data.progress import LOG_EVERY_S, duration
from ghosttrack.errors import ConfigError
from ghosttrack.processes import place
from ghosttrack.report.wandb import (
    Reference,
    WandbError,
    break_off,
    check_online,
    close,
    drop_empty,
    log_lineage,
    quiet,
)
from ghosttrack.run import Run, plain
from ghosttrack.world.store import FOLDER

LONGEST_TAG = 64
"""More characters W&B refuses."""

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
    run_id = _final(folder).name.rsplit("-", 1)[-1]
    settings: dict[str, Any] = {"save_dir": str(run.folder)}
    if config.logger["_target_"].endswith("WandbLogger"):
        offline = config.logger["offline"]
        if place().rank == 0:  # the first's new run is as empty to the others
            drop_empty(run.folder)
        settings |= {
            "id": run_id,
            "name": f"{job_type}-{config.model.name}-{run_id}",
            "job_type": job_type,
            "settings": quiet(offline=offline),
            "group": run.group,
            "tags": [tag[:LONGEST_TAG] for tag in (config.model.name, *_about(config))],
        }
    try:
        logger: Logger = instantiate(config.logger, **settings)
        logger.log_hyperparams(plain(config))
    except (InstantiationException, WandbError) as error:
        raise ConfigError(f"logger: {str(error.__cause__ or error).splitlines()[0]}") from error
    return logger


def _about(config: TrainProgram) -> list[str]:
    """Name what was examined, for the tags of a run."""
    sae = config.sae
    bank = [sae.architecture.name, f"d_sae={sae.d_sae}", f"k={sae.k}"]
    if not isinstance(config, DetectProgram):
        return bank
    if config.bank is not None:
        bank = [Path(config.bank).name]
    looked_at = [config.questions.name] if config.questions.kind.is_ready else bank
    return [*looked_at, config.detector.name]


def close_logger(logger: Logger, config: TrainProgram, run: Run, folder: Path) -> None:
    """End the logger's run, so that a later one in this process begins its own.

    W&B is told what the artefact in `folder`, which is in the making, was made from.
    """
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
    ready = isinstance(config, DetectProgram) and config.questions.kind.is_ready
    if ready or model.world is not None or config.corpus.kind is CorpusKind.activations:
        return []
    named = model.path or model.hub
    if named is not None and not Path(named).is_dir():
        return [Reference("models", model.name, f"https://huggingface.co/{named}")]
    return [Reference("models", model.name, Path(named or FOLDER).resolve().as_uri())]


def progress() -> tuple[Callback, bool]:
    """Return a progress bar on a terminal, log lines elsewhere; and whether it is a bar."""
    is_bar = sys.stderr.isatty()
    return (Bar() if is_bar else LogLines()), is_bar


def quieten_lightning() -> None:
    """Keep Lightning to its warnings, less those about its own code and about srun being there."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message="The `srun` command is available")


def shown(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Choose from a step's metrics what a progress line says; nothing before they are there.

    >>> shown({"tokens_per_s": 51234.5, "train/fvu_mean": 0.12, "train/fvu_max": 0.23,
    ...        "train/fvu/layer_0": 0.01, "train/fvu/layer_11": 0.23})
    {'tokens/s': '51,234', 'fvu': '0.120', 'worst layer_11': '0.230'}
    """
    one = "train/fvu/"
    fvu = {name.removeprefix(one): float(metrics[name]) for name in metrics if name.startswith(one)}
    if not fvu:
        return {}
    worst = max(fvu, key=lambda hook: fvu[hook])
    return {
        "tokens/s": f"{float(metrics['tokens_per_s']):,.0f}",
        "fvu": f"{float(metrics['train/fvu_mean']):.3f}",
        f"worst {worst}": f"{fvu[worst]:.3f}",
    }


class Bar(RichProgressBar):
    """Lightning's bar, with what a bank's training is watched by."""

    def get_metrics(  # pyright: ignore[reportIncompatibleMethodOverride] (Lightning's is invariant)
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, str]:
        """Choose what stands at the bar's right."""
        return shown(trainer.callback_metrics)


class Forecast(Callback):
    """Says once how long training takes, as the steps between its first two logs went.

    A step that logs waits for the device, so that what lies between two was really done.
    """

    def __init__(self) -> None:
        self.since: tuple[int, float] | None = None
        self.is_said = False

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Start the clock at the first log; speak at the second."""
        step, every = trainer.global_step, trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
        if self.is_said or step % every or not trainer.is_global_zero:
            return
        now = time.monotonic()
        if self.since is None:
            self.since = step, now
            return
        self.is_said = True
        first, then = self.since
        left = trainer.max_steps - step
        if not left:
            return
        seconds = duration(left * (now - then) / (step - first))
        log.info("about %s for %s steps", seconds, f"{left:,}")


class LogLines(Callback):
    """One line every few seconds: step, time left, tokens per second, mean and worst FVU."""

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
        numbers = shown(trainer.callback_metrics).items()
        words = [f"step {trainer.global_step:,} of {trainer.max_steps:,}", f"{duration(left)} left"]
        log.info("training: %s", ", ".join(words + [f"{name} {value}" for name, value in numbers]))
