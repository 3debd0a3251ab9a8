"""Activations in, an SAE bank out."""

import logging
from typing import TYPE_CHECKING, Any

from ghosttrack.artifacts import Artifact
from ghosttrack.config import TrainProgram
from ghosttrack.files import read_json
from ghosttrack.pipelines.extract import store_stage
from ghosttrack.pipelines.setup import Setup, check_logger
from ghosttrack.pipelines.stage import Deferred, Stage
from ghosttrack.run import Run, plain
from ghosttrack.sae.config import Source

if TYPE_CHECKING:
    from ghosttrack.sae.bank import Bank

SCHEMA = 1
"""Version of the files of a bank."""

LOAD = Deferred("ghosttrack.sae.bank", "Bank.load")

log = logging.getLogger(__name__)


def train(config: TrainProgram) -> None:
    """Run the program."""
    check_logger(config)
    setup = Setup(config, Run.start("train"))
    artifact = trained_stage(setup).make()
    setup.run.metrics["train"] = {"bank": str(artifact.path), **bank_metrics(artifact)}
    for hook in bank_metrics(artifact)["hooks"]:
        log.info(
            "%s: explained variance %.3f, L0 %.1f, dead %.3f",
            *(hook["hook"], hook["explained_variance"], hook["l0"], hook["dead_frac"]),
        )
    log.info("bank in %s", artifact.path)
    setup.run.finish()


def trained_stage(setup: Setup[TrainProgram]) -> "Stage[Bank]":
    """The bank that these settings train."""
    config = setup.config
    source: dict[str, object] = {"kind": config.train.source.name}
    if config.train.source is Source.stream:
        source["buffer_tokens"] = config.train.buffer_tokens
    settings = {
        "activations": store_stage(setup).id,
        "source": source,
        "sae": {name: value for name, value in plain(config.sae).items() if name != "seed"},
        "max_steps": config.trainer["max_steps"],
        "precision": config.precision.name,
        "seed": config.sae.seed,
        "schema": SCHEMA,
    }
    name = f"{config.sae.architecture.name}-{config.sae.d_sae}-{config.sae.k}"
    write = Deferred("ghosttrack.pipelines.train_bank", "write_trained", setup)
    return Stage(
        *(setup.outputs, "saes", name, settings, write, LOAD),
        title="train",
        distributed=True,
    )


def bank_metrics(artifact: Artifact) -> dict[str, Any]:
    """Read a bank's held-out metrics."""
    return read_json(artifact.path / "metrics.json")
