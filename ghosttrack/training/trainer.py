"""The trainer of a bank, and what its settings may not be."""

import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from ghosttrack.config import TrainProgram
from ghosttrack.errors import ConfigError
from ghosttrack.sae.config import Precision
from ghosttrack.training.layers import LayersStrategy
from ghosttrack.training.loggers import MachineUsage
from ghosttrack.training.plan import Plan
from ghosttrack.training.progress import Forecast, progress, quieten_lightning
from ghosttrack.training.resume import ResumePoints

NOT_FOR_A_BANK = {
    "accumulate_grad_batches": "sae.batch_size",
    "gradient_clip_val": "sae.clip_norm",
    "precision": "train.precision",
}
"""Arguments of `Trainer` that would change what a step is, and the setting to use instead."""


def make_trainer(config: TrainProgram, loggers: list[Logger], points: ResumePoints) -> pl.Trainer:
    """Make the trainer of a bank.

    Raises:
        ConfigError: `trainer` holds what training could not do, or what is no setting of it.
    """
    for name, instead in NOT_FOR_A_BANK.items():
        if name in config.trainer:
            raise ConfigError(f"trainer.{name} is not for a bank; set {instead}")
    callback, is_bar = progress()
    quieten_lightning()
    strategy = config.trainer["strategy"]
    try:
        trainer: pl.Trainer = instantiate(
            config.trainer,
            strategy=LayersStrategy() if strategy == "layers" else strategy,
            logger=loggers,
            callbacks=[points, callback, Forecast(), MachineUsage()],
            enable_progress_bar=is_bar,
            precision=precision(config).value,
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
    if config.sae.batch_size % wanted and not isinstance(trainer.strategy, LayersStrategy):
        raise ConfigError(
            f"sae.batch_size={config.sae.batch_size} is not a multiple of the {wanted} processes"
            " of trainer.devices and trainer.num_nodes"
        )


def precision(config: TrainProgram) -> Precision:
    """Resolve `train.precision` for the device that trains."""
    if config.train.precision is not Precision.auto:
        return config.train.precision
    accelerator = config.trainer["accelerator"]
    is_gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
    return Precision.bf16 if is_gpu else Precision.fp32


def training_plan(trainer: pl.Trainer, config: TrainProgram, n_hooks: int, d_model: int) -> Plan:
    """Say how large one rank's training of `n_hooks` hook points is."""
    is_split = isinstance(trainer.strategy, LayersStrategy)
    return Plan(
        n_hooks,
        1 if trainer.strategy.root_device.type == "cpu" else n_hooks,
        d_model,
        config.sae.d_sae,
        config.sae.batch_size // (1 if is_split else trainer.world_size),
    )
