"""Weights & Biases: what its own library must be asked for, beside Lightning's logger."""

import logging
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import wandb
from pytorch_lightning.loggers import Logger, WandbLogger

from ghosttrack.errors import ConfigError

REACH_S = 3.0
EMPTY_BYTES = 7
"""Of the file of an offline run that holds nothing."""
WandbError = wandb.Error

log = logging.getLogger(__name__)


def log_numbers(
    loggers: Iterable[Logger], numbers: Mapping[str, float], step: int | None = None
) -> None:
    """Log to all loggers, details hidden at W&B."""
    hide_details(loggers, numbers)
    for logger in loggers:
        logger.log_metrics(dict(numbers), step)


def hide_details(loggers: Iterable[Logger], names: Iterable[str]) -> None:
    """Keep what has a hook point, a detector or a canary of its own from W&B's automatic plots.

    72 hook points would be a thousand panels; a workspace draws them together.
    """
    details = list(filter(is_detail, names))
    for logger in [one for one in loggers if isinstance(one, WandbLogger)]:
        for name in details:
            logger.experiment.define_metric(
                name, step_metric="trainer/global_step", step_sync=True, hidden=True
            )


def is_detail(name: str) -> bool:
    """Tell whether a metric is one of many of its kind.

    >>> [is_detail(name) for name in ("train/fvu_mean", "train/fvu/layer_0", "canary/length")]
    [False, True, True]
    """
    return name.count("/") > 1 or name.startswith("canary/")


def check_online() -> None:
    """Make sure that an online run can start: never a prompt, never a long wait.

    Raises:
        ConfigError: There is no key or a malformed one, or the server does not answer.
    """
    if not has_key():
        raise ConfigError("logger.offline=false needs a key: set WANDB_API_KEY or log in to W&B")
    if fault := silence():
        raise ConfigError(
            f"logger.offline=false, but {fault};"
            " set logger.offline=true and `wandb sync` the run later"
        )


def silence() -> str:
    """Say that the server does not answer, and why; nothing where it does."""
    url = os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url
    try:
        urllib.request.urlopen(url, timeout=REACH_S).close()
    except urllib.error.HTTPError:
        return ""  # whatever it says, it is there
    except (OSError, ValueError) as error:
        return f"{url} (WANDB_BASE_URL) does not answer: {error}"
    return ""


def has_key() -> bool:
    """Tell whether there is a key: no prompt, and no question to the server.

    Raises:
        ConfigError: There is one that cannot be right.
    """
    # else login asks who the user is, for a word of welcome, again and again where nobody answers
    wandb.setup(settings=wandb.Settings(silent=True, x_disable_viewer=True))
    try:
        return wandb.login(prompt=False, verify=False)
    except (wandb.Error, ValueError) as error:
        raise ConfigError(f"logger.offline=false: {str(error).splitlines()[0]}") from error


def quiet(*, offline: bool) -> wandb.Settings:
    """Return settings by which W&B keeps off the terminal, its warnings at start included."""
    settings = wandb.Settings(silent=True, mode="offline" if offline else "online")
    wandb.setup(settings=settings)
    return settings


def is_switched_off() -> bool:
    """Tell whether the user wants none of it: by its own settings, or as Transformers is told."""
    if os.environ.get("WANDB_DISABLED", "").lower() not in ("", "0", "false", "no", "off"):
        return True
    return wandb.setup(settings=wandb.Settings(silent=True)).settings.mode == "disabled"


def drop_empty(folder: Path, run_id: str) -> None:
    """Remove what offline runs of an id left at or below a folder that hold nothing.

    One is left where W&B's process was killed before it had written 32 KiB; `wandb sync` stops at
    it and leaves out those that go on with its run. Nobody else writes to that run: who goes on
    with it holds the artefact of its name.
    """
    for file in folder.rglob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb"):
        if file.stat().st_size <= EMPTY_BYTES:
            shutil.rmtree(file.parent)


def close() -> None:
    """Finish the process's current W&B run."""
    wandb.finish()


def break_off(*, is_preempted: bool) -> None:
    """Write what the process's current W&B run was told, if there is one, and let go of W&B.

    No fault of W&B's goes further: what ended the process's task is what counts, and whoever
    preempts a job may have ended W&B's own process already.
    """
    if wandb.run is None:
        return
    with suppress(Exception):
        if is_preempted:
            wandb.run.mark_preempting()
        wandb.teardown(exit_code=1)


class Reference(NamedTuple):
    """What stands for an artefact at W&B; the folder itself stays where it is."""

    kind: str
    name: str
    """Ends with the artefact's id: the same name is the same version everywhere."""
    address: str

    def artifact(self) -> wandb.Artifact:
        """Put it as W&B does; where it lies does not make it another version."""
        artifact = wandb.Artifact(self.name, type=self.kind, metadata={"address": self.address})
        artifact.add_reference(f"ghosttrack:{self.name}", name=self.name)
        return artifact


def log_lineage(logger: WandbLogger, used: Sequence[Reference], made: Reference) -> None:
    """Tell what a run was made from and what it made; nothing of it is uploaded.

    W&B takes what was used from online runs alone; of an offline one the configuration names it.
    """
    run = logger.experiment
    made_from = {one.name: one.address for one in used}
    run.config.update({"made_from": made_from}, allow_val_change=True)
    try:
        run.log_artifact(made.artifact())
        for one in () if run.offline else used:
            run.use_artifact(one.artifact())
    except (wandb.Error, ValueError) as error:
        log.warning("W&B did not take the lineage: %s", error)
