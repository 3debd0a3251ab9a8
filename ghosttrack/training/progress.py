"""What a user sees of training while it goes on."""

import logging
import sys
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, RichProgressBar

from ghosttrack.data.progress import LOG_EVERY_S, duration

log = logging.getLogger(__name__)


def progress() -> tuple[Callback, bool]:
    """Return a progress bar on a terminal, log lines elsewhere; and whether it is a bar."""
    is_bar = sys.stderr.isatty()
    return (Bar() if is_bar else LogLines()), is_bar


def quieten_lightning() -> None:
    """Keep Lightning to its warnings, less those about its own code and about srun being there."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message="The `srun` command is available")


def shown(metrics: Mapping[str, float]) -> dict[str, str]:
    """Choose from a step's metrics what a progress line says; nothing before they are there.

    >>> shown({"tokens_per_s": 51234.5, "train/fvu_mean": 0.12, "train/fvu_max": 0.23,
    ...        "train/fvu/layer_0": 0.01, "train/fvu/layer_11": 0.23})
    {'tokens/s': '51,234', 'fvu': '0.120', 'worst layer_11': '0.230'}
    """
    one = "train/fvu/"
    fvu = {name.removeprefix(one): metrics[name] for name in metrics if name.startswith(one)}
    if not fvu:
        return {}
    worst = max(fvu, key=lambda hook: fvu[hook])
    return {
        "tokens/s": f"{metrics['tokens_per_s']:,.0f}",
        "fvu": f"{metrics['train/fvu_mean']:.3f}",
        f"worst {worst}": f"{fvu[worst]:.3f}",
    }


class Bar(RichProgressBar):
    """Lightning's bar, with what a bank's training is watched by."""

    def get_metrics(  # pyright: ignore[reportIncompatibleMethodOverride] (Lightning's is invariant)
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, str]:
        """Choose what stands at the bar's right."""
        return shown(getattr(pl_module, "latest", {}))


class AfterStep(Callback, ABC):
    """Does something when a step has been taken, and has logged where that is due."""

    @abstractmethod
    def after_step(self, trainer: pl.Trainer) -> None:
        """Do it."""

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Leave Lightning's other arguments alone."""
        self.after_step(trainer)


class Forecast(AfterStep):
    """Says once how long training takes, as the steps between its first two logs went.

    A GPU is ahead or behind by a few steps at most, for every so many its dead latents are counted.
    """

    def __init__(self) -> None:
        self.since: tuple[int, float] | None = None
        self.is_said = False

    def after_step(self, trainer: pl.Trainer) -> None:
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


class LogLines(AfterStep):
    """One line every few seconds: step, time left, tokens per second, mean and worst FVU."""

    def __init__(self) -> None:
        self.started = self.logged = time.monotonic()
        self.first_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started = self.logged = time.monotonic()
        self.first_step = trainer.global_step

    def after_step(self, trainer: pl.Trainer) -> None:
        """Log when it is time, and at the last step."""
        now, last = time.monotonic(), trainer.global_step == trainer.max_steps
        if not trainer.is_global_zero or (now - self.logged < LOG_EVERY_S and not last):
            return
        self.logged = now
        speed = (trainer.global_step - self.first_step) / (now - self.started)
        left = (trainer.max_steps - trainer.global_step) / max(speed, 1e-9)
        numbers = shown(getattr(trainer.lightning_module, "latest", {})).items()
        words = [f"step {trainer.global_step:,} of {trainer.max_steps:,}", f"{duration(left)} left"]
        log.info("training: %s", ", ".join(words + [f"{name} {value}" for name, value in numbers]))
