"""Weights & Biases: what its own library must be asked for, beside Lightning's logger."""

import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import urlparse

import wandb
from pytorch_lightning.loggers import Logger, WandbLogger

from ghosttrack.errors import ConfigError
from ghosttrack.evaluation.result import Evaluation

REACH_S = 3.0


def check_online() -> None:
    """Make sure that an online run can start: never a prompt, never a long wait.

    Raises:
        ConfigError: There is no key, or the server does not answer.
    """
    url = os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url
    if not wandb.login(prompt=False, verify=False):
        raise ConfigError("logger.offline=false needs a key: set WANDB_API_KEY or log in to W&B")
    parts = urlparse(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=REACH_S).close()
    except OSError as error:
        raise ConfigError(
            f"logger.offline=false, but {url} (WANDB_BASE_URL) does not answer: {error};"
            " set logger.offline=true and `wandb sync` the run later"
        ) from error


def quiet(*, offline: bool) -> wandb.Settings:
    """Return settings by which W&B keeps off the terminal, its warnings at start included."""
    settings = wandb.Settings(silent=True, mode="offline" if offline else "online")
    wandb.setup(settings=settings)
    return settings


def close() -> None:
    """Finish the process's current W&B run."""
    wandb.finish()


def log_evaluation(
    logger: Logger, evaluation: Evaluation, names: Sequence[str], figures: Sequence[Path]
) -> None:
    """Log an evaluation: every headline number, and to W&B the figures and the table of rows.

    Args:
        logger: Lightning's.
        evaluation: What was found.
        names: Detectors whose numbers are logged one by one.
        figures: SVG files, each with a PNG beside it.
    """
    numbers = {
        f"detect/{name}/{row.detector}/{row.subset}": getattr(row, name)
        for row in evaluation.rows
        if row.detector in names
        for name in ("auroc", "auprc", "f1", "ece")
    }
    canaries = {f"canary/{name}": value for name, value in evaluation.canaries.items()}
    logger.log_metrics({**numbers, **canaries})
    if isinstance(logger, WandbLogger):
        columns: list[str | int] = [
            "detector",
            "subset",
            "n",
            "auroc",
            "low",
            "high",
            "f1",
            "ece",
            "passes",
        ]
        rows: list[Iterable[object]] = [
            [
                row.detector,
                row.subset,
                row.n,
                row.auroc,
                *row.auroc_ci,
                row.f1,
                row.ece,
                row.forwards,
            ]
            for row in evaluation.rows
        ]
        pictures = {
            f"figures/{path.stem}": wandb.Image(str(path.with_suffix(".png"))) for path in figures
        }
        logger.experiment.log({"detectors": wandb.Table(columns, rows), **pictures})
