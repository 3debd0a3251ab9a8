"""`trainer=layers`: each rank trains hook points of its own, and nothing is summed over ranks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy

from ghosttrack.data.datamodule import ActivationsDataModule
from ghosttrack.errors import ConfigError


class LayersStrategy(DDPStrategy):
    """Starts ranks as DDP does, leaves the module as it is, and lets every rank keep its state."""

    def configure_ddp(self) -> None:
        """Wrap nothing: no gradient leaves its rank."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: object = None
    ) -> None:
        """Write this rank's file."""
        self.checkpoint_io.save_checkpoint(checkpoint, filepath, storage_options=storage_options)


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
    return Share(own(hooks, rank, world_size), 0, 1)


def own(hooks: Sequence[str], rank: int, world_size: int) -> list[str]:
    """Deal neighbours to ranks, as many to each; the first ranks take what is over.

    >>> [own(["layer_0", "layer_1", "layer_2"], rank, 2) for rank in range(2)]
    [['layer_0', 'layer_1'], ['layer_2']]
    """
    each, over = divmod(len(hooks), world_size)
    start = rank * each + min(rank, over)
    return list(hooks[start : start + each + (rank < over)])
