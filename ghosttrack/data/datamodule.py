"""Activations for the Trainer: a loader that goes on where it was stopped."""

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

import pytorch_lightning as pl
from jaxtyping import Float
from torch import Tensor

from ghosttrack.data.source import ActivationSource
from ghosttrack.errors import ConfigError

Batches = Generator[Float[Tensor, "hook row d_model"]]


class TrainBatches:
    """The batches of one training run, `steps` of them in all.

    Lightning keeps `state_dict` in its checkpoints and gives it back before it asks for batches, so
    a run that was stopped gets those that were not yet handed out, and no other.
    """

    def __init__(self, batches: Callable[[int], Batches], steps: int) -> None:
        self.batches = batches
        self.steps = steps
        self.step = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Batches:
        assert self.step < self.steps, f"all {self.steps} steps were handed out: set max_steps"
        with closing(self.batches(self.step)) as batches:
            while self.step < self.steps:
                batch = next(batches)
                self.step += 1
                if self.step == self.steps:
                    batches.close()  # the trainer may not come back for the end
                yield batch

    def state_dict(self) -> dict[str, Any]:
        """Count the batches handed out, not those made ahead."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after those batches."""
        self.step = state["step"]


class ActivationsDataModule(pl.LightningDataModule):
    """Feed a bank: `steps` shuffled batches.

    A batch is [hook row d_model] in the source's number format; each rank gets its share of the
    same global batch. Use it with `Trainer(use_distributed_sampler=False)`.

    Args:
        batch_size: Tokens per step and hook point, over all ranks.
    """

    def __init__(self, source: ActivationSource, batch_size: int, seed: int, steps: int) -> None:
        super().__init__()
        self.source = source
        self.batch_size = batch_size
        self.seed = seed
        self.steps = steps

    def train_dataloader(self) -> TrainBatches:
        """Give the run's batches.

        Raises:
            ConfigError: The batch does not divide by the number of ranks.
        """
        rank, world_size = self._ranks()
        return TrainBatches(
            lambda step: self.source.batches(self.batch_size, self.seed, rank, world_size, step),
            self.steps,
        )

    def _ranks(self) -> tuple[int, int]:
        trainer = self.trainer
        assert trainer is not None, "a datamodule without a trainer has no ranks"
        if self.batch_size % trainer.world_size:
            raise ConfigError(
                f"sae.batch_size={self.batch_size} is not a multiple of the {trainer.world_size}"
                " processes of trainer.devices and trainer.num_nodes"
            )
        return trainer.global_rank, trainer.world_size
