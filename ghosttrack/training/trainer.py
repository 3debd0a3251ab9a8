"""The trainer of a bank: its settings, the ranks' shares, what a run takes, errors with a cure."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from ghosttrack.config import TrainProgram
from ghosttrack.data.datamodule import ActivationsDataModule
from ghosttrack.errors import ConfigError, GhostTrackError
from ghosttrack.files import in_bytes
from ghosttrack.sae.config import Architecture, SAEConfig
from ghosttrack.sae.products import choose
from ghosttrack.training.capacity import (
    MOMENT_BYTES,
    WEIGHT_BYTES,
    check_capacity,
    plan_of,
)
from ghosttrack.training.loggers import MachineUsage
from ghosttrack.training.progress import Forecast, progress, quieten_lightning
from ghosttrack.training.strategies import (
    LayersStrategy,
    OwnGPU,
    ShardedStrategy,
    resolved,
    sees_one_of_many,
)

NOT_FOR_A_BANK = {
    "accumulate_grad_batches": "sae.batch_size",
    "gradient_clip_val": "sae.clip_norm",
    "precision": "train.precision",
}
"""Arguments of `Trainer` that would change what a step is, and the setting to use instead."""
NO_MEMORY = "DefaultCPUAllocator"
"""In what PyTorch says of a CPU without memory, by an error of no class of its own."""
LOST_RANK = ("by peer", "remote process exited")
"""In what gloo and NCCL say when another rank is gone."""


class WholeBatches(ActivationsDataModule):
    """Feeds every rank the same tokens, each of its own hook points."""

    def _ranks(self) -> tuple[int, int]:
        return 0, 1


class Share(NamedTuple):
    """What one rank trains: some hook points, and rows `rank::world_size` of their batches."""

    hooks: list[str]
    rank: int
    world_size: int


def share(trainer: pl.Trainer, hooks: Sequence[str]) -> Share:
    """Give a rank its part of the bank: some hook points whole, or some rows of all.

    Raises:
        ConfigError: There are more ranks than hook points to give away.
    """
    rank, world_size = trainer.global_rank, trainer.world_size
    if not isinstance(trainer.strategy, LayersStrategy):
        return Share(list(hooks), rank, world_size)
    if world_size > len(hooks):
        raise ConfigError(
            f"trainer.devices * trainer.num_nodes = {world_size} ranks for {len(hooks)} hook"
            f" points; take at most {len(hooks)}, or trainer=ddp, which splits batches instead"
        )
    return Share(share_hooks(hooks, world_size)[rank], 0, 1)


def shares(trainer: pl.Trainer, hooks: Sequence[str]) -> list[list[str]] | None:
    """Give every rank's hook points, where each trains its own; else None."""
    is_split = isinstance(trainer.strategy, LayersStrategy)
    return share_hooks(hooks, trainer.world_size) if is_split else None


def owned(trainer: pl.Trainer, hooks: Sequence[str]) -> list[slice] | None:
    """Give the hook points that every rank moves, where ranks share batches of one bank."""
    if not isinstance(trainer.strategy, ShardedStrategy) or trainer.world_size == 1:
        return None
    ends = accumulate(map(len, share_hooks(hooks, trainer.world_size)), initial=0)
    return [slice(*pair) for pair in pairwise(ends)]


def share_hooks(hooks: Sequence[str], world_size: int) -> list[list[str]]:
    """Deal neighbours to ranks, as many to each; the first ranks take what is over.

    >>> share_hooks(["layer_0", "layer_1", "layer_2"], 2)
    [['layer_0', 'layer_1'], ['layer_2']]
    """
    return [part.tolist() for part in np.array_split(list(hooks), world_size)]


class TrainingBudget(NamedTuple):
    """What one rank's training takes, worked out before it starts."""

    n_hooks: int
    """Hook points that this rank trains."""
    d_model: int
    d_sae: int
    step_bytes: int = 0
    """What a step holds besides."""

    @property
    def n_parameters(self) -> int:
        """Count weights and biases.

        >>> TrainingBudget(24, d_model=1024, d_sae=5120).n_parameters
        251805696
        """
        return self.n_hooks * (2 * self.d_model * self.d_sae + self.d_sae + self.d_model)

    @property
    def state_bytes(self) -> int:
        """Count what stays in memory from step to step.

        >>> TrainingBudget(24, d_model=1024, d_sae=5120).state_bytes
        4028891136
        """
        return (WEIGHT_BYTES + MOMENT_BYTES) * self.n_parameters

    @property
    def point_bytes(self) -> int:
        """Count what a resume point holds: weights and Adam's two moments.

        >>> TrainingBudget(24, d_model=1024, d_sae=5120).point_bytes
        3021668352
        """
        return 12 * self.n_parameters

    def describe(self, n_steps: int, batch_size: int, n_distinct: int) -> str:
        """Say in one line what training takes, but for the time.

        >>> said = TrainingBudget(24, 1024, 5120, 6_594_281_760).describe(10_000, 4096, 10_000_000)
        >>> for part in said.split("; "):
        ...     print(part)
        251.8M parameters, 4.03 GB with gradients and Adam, about 6.59 GB more in a step, per rank
        10,000 steps of 4,096 tokens: 41.0M, or 4.1 times each of 10.0M
        1.01 GB on the disk, before that two resume points of 3.02 GB
        """
        n_tokens = n_steps * batch_size
        return (
            f"{self.n_parameters / 1e6:.1f}M parameters, {self.state_bytes / 1e9:.2f} GB with"
            f" gradients and Adam, about {self.step_bytes / 1e9:.2f} GB more in a step, per rank;"
            f" {n_steps:,} steps of {batch_size:,} tokens: {n_tokens / 1e6:.1f}M, or"
            f" {n_tokens / n_distinct:.1f} times each of {n_distinct / 1e6:.1f}M;"
            f" {4 * self.n_parameters / 1e9:.2f} GB on the disk, before that two resume points of"
            f" {self.point_bytes / 1e9:.2f} GB"
        )


def bank_bytes(n_hooks: int, d_model: int, d_sae: int, architecture: Architecture) -> int:
    """Count the bytes of a saved bank's tensors.

    >>> bank_bytes(6, d_model=128, d_sae=512, architecture=Architecture.topk)
    3161088
    """
    n_thresholds = d_sae if architecture.has_threshold else 0
    return 4 * n_hooks * (2 * d_model * d_sae + d_sae + d_model + n_thresholds)


def check_room(points: Path, bank: TrainingBudget) -> None:
    """Refuse a bank whose resume points the disk could not hold: the last, and the next one.

    Args:
        points: Folder of the resume points; what it holds of them will make room.
        bank: Of all ranks' hook points.

    Raises:
        ConfigError: Says what is there and what is needed.
    """
    points.mkdir(parents=True, exist_ok=True)
    held = sum(file.stat().st_size for file in points.rglob("*") if file.is_file())
    free, needed = shutil.disk_usage(points).free + held, 2 * bank.point_bytes
    if needed > free:
        raise ConfigError(
            f"output_root: two resume points of {in_bytes(bank.point_bytes)} do not fit the"
            f" {in_bytes(free)} that are free under {points.parent}; set output_root= to a"
            " larger disk, or a smaller sae.d_sae"
        )


def make_trainer(
    config: TrainProgram, loggers: list[Logger], points: Checkpoint, n_hooks: int
) -> pl.Trainer:
    """Make the trainer of a bank of so many hook points.

    Raises:
        ConfigError: `trainer` holds what training could not do, or what is no setting of it.
    """
    for name, instead in NOT_FOR_A_BANK.items():
        if name in config.trainer:
            raise ConfigError(f"trainer.{name} is not for a bank; set {instead}")
    callback, is_bar = progress()
    quieten_lightning()
    devices, strategy = resolved(config.trainer, n_hooks, config.sae.d_sae)
    own = {"accelerator": OwnGPU()} if sees_one_of_many(config.trainer["accelerator"]) else {}
    try:
        trainer: pl.Trainer = instantiate(
            config.trainer,
            **own,
            devices=devices,
            strategy=strategy,
            logger=loggers,
            callbacks=[points, callback, Forecast(), MachineUsage()],
            enable_progress_bar=is_bar,
            precision=config.precision.value,
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
    choose(config.sae, trainer.strategy.root_device)  # refuses what the device cannot do


def training_budget(
    trainer: pl.Trainer, config: TrainProgram, n_hooks: int, d_model: int
) -> TrainingBudget:
    """Say how large one rank's training of `n_hooks` hook points is."""
    n_rows = rows_of(trainer, config.sae)
    if trainer.strategy.root_device.type == "cpu":
        # one hook point at a time: pre-activations, and batch, inputs, error and its gradient
        step_bytes = 4 * n_rows * (config.sae.d_sae + 4 * d_model)
    else:
        step_bytes = plan_of(config, n_hooks, d_model, 0, n_rows, config.precision).step_bytes
    return TrainingBudget(n_hooks, d_model, config.sae.d_sae, step_bytes)


def rows_of(trainer: pl.Trainer, config: SAEConfig) -> int:
    """Count the tokens of a batch that one rank gets."""
    is_split = isinstance(trainer.strategy, LayersStrategy)
    return config.batch_size // (1 if is_split else trainer.world_size)


def check_gpu(
    trainer: pl.Trainer, config: TrainProgram, n_hooks: int, d_model: int, n_layers: int
) -> None:
    """Refuse what this rank's GPU has no memory for, before any of it is allocated.

    Raises:
        ConfigError: Says what would fit.
    """
    device = trainer.strategy.root_device
    if device.type == "cuda":
        rows, products = rows_of(trainer, config.sae), config.precision
        capacity = torch.cuda.get_device_properties(device).total_memory
        plan = plan_of(config, n_hooks, d_model, n_layers, rows, products)
        is_sharded = isinstance(trainer.strategy, ShardedStrategy)
        owners = trainer.world_size if is_sharded else 1
        check_capacity(replace(plan, n_owners=owners), capacity, str(device))


@contextmanager
def curable(config: SAEConfig) -> Iterator[None]:
    """Name the settings that make a step smaller, or what to do about a rank that ended.

    Raises:
        ConfigError: There is no memory for a step.
        GhostTrackError: Another rank ended; its own message, if it left one, says why.
    """
    try:
        yield
    except RuntimeError as error:
        said = str(error)
        if isinstance(error, torch.OutOfMemoryError) or NO_MEMORY in said:
            raise ConfigError(
                f"sae.batch_size={config.batch_size}: no memory for a step; lower it or"
                f" sae.d_sae={config.d_sae}, or train on more devices with trainer=layers (splits"
                " the bank) or trainer=ddp (splits batches): the same command with either goes on"
                " from the last resume point"
            ) from error
        if any(sign in said for sign in LOST_RANK):
            raise GhostTrackError(
                "another rank ended; the same command goes on from the last resume point"
            ) from error
        raise
