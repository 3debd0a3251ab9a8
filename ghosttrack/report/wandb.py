"""Weights & Biases: what its own library must be asked for, beside Lightning's logger."""

import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import wandb
from pytorch_lightning.loggers import WandbLogger
from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry
from wandb.sdk.lib.paths import LogicalPath

from ghosttrack.errors import ConfigError

REACH_S = 3.0
FILE_HEAD = 7
"""Bytes that the file of an offline run begins with."""
WandbError = wandb.Error


class BriefWandbLogger(WandbLogger):
    """Lightning's; of what has a hook point, a detector or a canary of its own it draws nothing.

    It logs all of that, as `is_detail` tells it, and hides it from the plots that W&B makes by
    itself: 72 hook points would be a thousand panels. A workspace draws them together.
    """

    _hidden: frozenset[str] = frozenset()

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log, details hidden."""
        details = {name for name in metrics if is_detail(name)} - self._hidden
        for name in sorted(details):
            self.experiment.define_metric(
                name, step_metric="trainer/global_step", step_sync=True, hidden=True
            )
        self._hidden |= details
        super().log_metrics(metrics, step)


def is_detail(name: str) -> bool:
    """Tell whether a metric is one of many of its kind.

    >>> [is_detail(name) for name in ("train/fvu_mean", "train/fvu/layer_0", "canary/length")]
    [False, True, True]
    """
    return name.count("/") > 1 or name.startswith("canary/")


def check_online() -> None:
    """Make sure that an online run can start: never a prompt, never a long wait.

    Raises:
        ConfigError: There is no key, or the server does not answer.
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
    """Tell whether there is a key: no prompt, and no question to the server."""
    # else login asks who the user is, for a word of welcome, again and again where nobody answers
    wandb.setup(settings=wandb.Settings(silent=True, x_disable_viewer=True))
    return wandb.login(prompt=False, verify=False)


def quiet(*, offline: bool) -> wandb.Settings:
    """Return settings by which W&B keeps off the terminal, its warnings at start included."""
    settings = wandb.Settings(silent=True, mode="offline" if offline else "online")
    wandb.setup(settings=settings)
    return settings


def drop_empty(folder: Path) -> None:
    """Remove offline runs in a run's folder that hold nothing.

    One is left where W&B's process was killed before it had written 32 KiB; `wandb sync` stops at
    it and leaves out those that go on with its run.
    """
    for file in folder.glob("wandb/offline-run-*/run-*.wandb"):
        if file.stat().st_size <= FILE_HEAD:
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
        """Put it as W&B does."""
        artifact = wandb.Artifact(self.name, type=self.kind)
        entry = ArtifactManifestEntry(
            path=LogicalPath(self.name), digest=self.name, ref=self.address, size=0
        )
        artifact.manifest.add_entry(entry)
        return artifact


def log_lineage(logger: WandbLogger, used: Sequence[Reference], made: Reference) -> None:
    """Tell what a run was made from and what it made; nothing of it is uploaded."""
    run = logger.experiment
    for one in used:
        # what `use_artifact` does with one that the server has not seen; it refuses offline runs
        run._log_artifact(one.artifact(), use_after_commit=True)
    run.log_artifact(made.artifact())


def chart(kind: str, fields: Mapping[str, str], title: str, rows: Sequence[Sequence[Any]]) -> Any:  # noqa: ANN401 - W&B's custom chart
    """Draw rows with one of W&B's own charts.

    Args:
        kind: As in `wandb/<kind>`.
        fields: What the chart asks for, and the column that gives it; every column is in it.
        title: Above it.
        rows: Cells in the order of `fields`.
    """
    table = wandb.Table(columns=list(fields.values()), data=[list(row) for row in rows])
    return wandb.plot_table(f"wandb/{kind}", table, dict(fields), {"title": title})


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> wandb.Table:
    """Make a table."""
    return wandb.Table(columns=list(columns), data=[list(row) for row in rows])


def picture(path: Path) -> wandb.Image:
    """Take the PNG beside a figure."""
    return wandb.Image(str(path.with_suffix(".png")))
