"""Activations in, an SAE bank out."""

import logging
import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from ghosttrack.artifacts import Artifact, artifact_id, read_json
from ghosttrack.config import TrainProgram
from ghosttrack.data.datamodule import ActivationsDataModule
from ghosttrack.data.source import ActivationSource
from ghosttrack.data.store import ActivationStore, StoreSource
from ghosttrack.data.stream import StreamSource
from ghosttrack.errors import ConfigError
from ghosttrack.pipelines.checkpoints import WholeCheckpoints
from ghosttrack.pipelines.extract import activations, activations_identity
from ghosttrack.pipelines.logs import (
    check_logger,
    close_logger,
    make_logger,
    progress,
    quieten_lightning,
)
from ghosttrack.pipelines.run import Run, plain
from ghosttrack.pipelines.study import Study
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.config import Precision, Source
from ghosttrack.sae.evaluate import evaluate
from ghosttrack.sae.init import initialise
from ghosttrack.sae.lit import LitBank
from ghosttrack.sae.metrics import HookMetrics

CHECKPOINT = Path("checkpoint/last.ckpt")
SAMPLE_TOKENS = 8192
"""First tokens, from which scale, centre and encoder gain are set."""
NOT_FOR_A_BANK = {
    "accumulate_grad_batches": "sae.batch_size",
    "gradient_clip_val": "sae.clip_norm",
    "precision": "train.precision",
}
"""Arguments of `Trainer` that would change what a step is, and the setting to use instead."""

log = logging.getLogger(__name__)


def train(config: TrainProgram) -> None:
    """Run the program."""
    check_logger(config)
    study = Study(config, Run.start("train"))
    artifact = bank(study, config)
    study.run.metrics["train"] = {"bank": str(artifact.path), **bank_metrics(artifact)}
    for hook in bank_metrics(artifact)["hooks"]:
        log.info(
            "%s: explained variance %.3f, L0 %.1f, dead %.3f",
            *(hook["hook"], hook["explained_variance"], hook["l0"], hook["dead_frac"]),
        )
    log.info("bank in %s", artifact.path)
    study.run.finish()


def bank(study: Study, config: TrainProgram) -> Artifact:
    """Return the bank of this configuration, training it where it is missing."""
    identity = bank_identity(study, config)

    def write(folder: Path) -> None:
        if config.train.source is Source.store:
            study.upstream(
                "activations", config.corpus.name, activations_identity(study), "extract"
            )
        write_bank(folder, study, config)

    with study.run.stage("train"):
        return study.build("saes", bank_name(config), identity, write, distributed=True)


def bank_name(config: TrainProgram) -> str:
    """Name a bank for people; its id tells banks of one name apart."""
    return f"{config.sae.architecture.name}-{config.sae.d_sae}-{config.sae.k}"


def bank_identity(study: Study, config: TrainProgram) -> dict[str, object]:
    """What determines the weights of a bank."""
    source: dict[str, object] = {"kind": config.train.source.name}
    if config.train.source is Source.stream:
        source["buffer_tokens"] = config.train.buffer_tokens
    return {
        "activations": artifact_id(activations_identity(study)),
        "source": source,
        "sae": plain(config.sae),
        "max_steps": config.trainer["max_steps"],
        "precision": _precision(config).name,
        "seed": config.seed,
    }


def bank_metrics(artifact: Artifact) -> dict[str, Any]:
    """Read a bank's held-out metrics."""
    return read_json(artifact.path / "metrics.json")


def activation_source(study: Study, config: TrainProgram) -> ActivationSource:
    """Open the activations that a bank learns from, extracting a store where it is missing."""
    if config.train.source is Source.store:
        return StoreSource(ActivationStore(activations(study).path))
    return stream_source(study, config.train.buffer_tokens)


def stream_source(study: Study, buffer_tokens: int) -> StreamSource:
    """Let the model run beside whoever asks for activations."""
    config = study.config
    return StreamSource(
        study.lm, study.corpus, study.layers, config.store, config.extract, buffer_tokens
    )


def write_bank(folder: Path, study: Study, config: TrainProgram) -> None:
    """Train from the last checkpoint in `folder`, or anew, and save the bank there.

    Under DDP every rank comes here and rank 0 saves.
    """
    logger = make_logger(config, study.run, "train", folder)
    trainer = _trainer(config, folder, logger)
    source = activation_source(study, config)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    bank = Bank(source.hooks, source.d_model, config.sae.d_sae, config.sae.k)
    initialise(bank, source.sample(SAMPLE_TOKENS))
    steps = trainer.max_steps
    lit = LitBank(bank, config.sae, steps)
    data = ActivationsDataModule(source, config.sae.batch_size, config.seed, steps)
    checkpoint = folder / CHECKPOINT
    if checkpoint.is_file():
        log.info("going on from %s", checkpoint)
    _fit(trainer, lit, data, checkpoint if checkpoint.is_file() else None)
    rows = _evaluate(bank, source, config, trainer)
    if trainer.is_global_zero:
        logger.log_metrics(_flat(rows), step=steps)
        close_logger(logger)
        bank.save(folder, rows, {"model_name": config.model.name, "seed": config.seed})
        shutil.rmtree(folder / CHECKPOINT.parent, ignore_errors=True)


def _fit(
    trainer: pl.Trainer, lit: LitBank, data: ActivationsDataModule, checkpoint: Path | None
) -> None:
    """Train to the last step, and to no other: what is kept is named by it."""
    try:
        trainer.fit(lit, data, ckpt_path=checkpoint)
    except SystemExit as ended:
        if trainer.interrupted:  # Lightning turns Ctrl-C into an exit of its own
            raise KeyboardInterrupt from ended
        raise
    if trainer.global_step < lit.max_steps:
        raise ConfigError(
            f"trainer.max_steps={lit.max_steps}, but another limit of `trainer` ended training at"
            f" step {trainer.global_step}; without it the same command goes on from there"
        )


def _trainer(config: TrainProgram, folder: Path, logger: Logger) -> pl.Trainer:
    for name, instead in NOT_FOR_A_BANK.items():
        if name in config.trainer:
            raise ConfigError(f"trainer.{name} is not for a bank; set {instead}")
    checkpoints = ModelCheckpoint(
        dirpath=folder / CHECKPOINT.parent,
        filename=CHECKPOINT.stem,
        every_n_train_steps=config.train.checkpoint_every,
        enable_version_counter=False,
    )
    callback, is_bar = progress()
    quieten_lightning()
    try:
        trainer: pl.Trainer = instantiate(
            config.trainer,
            logger=logger,
            callbacks=[checkpoints, callback],
            plugins=[WholeCheckpoints()],
            enable_progress_bar=is_bar,
            precision=_precision(config).value,
        )
    except (InstantiationException, MisconfigurationException) as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ConfigError(f"trainer: {reason}") from error
    _check(trainer, config)
    return trainer


def _check(trainer: pl.Trainer, config: TrainProgram) -> None:
    """Refuse, before activations are extracted, what training could not do."""
    if trainer.max_steps < 1:
        raise ConfigError(f"trainer.max_steps must be at least 1, got {trainer.max_steps}")
    wanted = trainer.num_devices * trainer.num_nodes
    if trainer.world_size != wanted:
        raise ConfigError(
            f"trainer.devices * trainer.num_nodes = {wanted}, but {trainer.world_size} processes"
            " run; start one per device (srun, torchrun) or lower them"
        )
    if config.sae.batch_size % wanted:
        raise ConfigError(
            f"sae.batch_size={config.sae.batch_size} is not a multiple of the {wanted} processes"
            " of trainer.devices and trainer.num_nodes"
        )


def _precision(config: TrainProgram) -> Precision:
    """Resolve `train.precision` for the device that trains."""
    if config.train.precision is not Precision.auto:
        return config.train.precision
    accelerator = config.trainer["accelerator"]
    is_gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
    return Precision.bf16 if is_gpu else Precision.fp32


def _evaluate(
    bank: Bank, source: ActivationSource, config: TrainProgram, trainer: pl.Trainer
) -> list[HookMetrics]:
    """Measure on held-out tokens, over all ranks while their process group is up."""
    rank, world_size = 0, 1
    if torch.distributed.is_initialized():
        rank, world_size = trainer.global_rank, trainer.world_size
    batches = source.heldout_batches(config.sae.batch_size, rank, world_size)
    return evaluate(bank, batches, trainer.strategy.root_device)


def _flat(rows: list[HookMetrics]) -> dict[str, float]:
    """Name every held-out number as dashboards group them: `heldout/fvu/layer_3`."""
    fvu = [row.fvu for row in rows]
    return {
        "heldout/fvu_mean": sum(fvu) / len(fvu),
        "heldout/fvu_max": max(fvu),
        **{
            f"heldout/{name}/{row.hook}": value
            for row in rows
            for name, value in row._asdict().items()
            if isinstance(value, float)
        },
    }
