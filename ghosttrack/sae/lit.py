"""The bank's Lightning face."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor

from ghosttrack.errors import ConfigError
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.config import SAEConfig
from ghosttrack.sae.loss import BankLoss, Losses
from ghosttrack.sae.optimiser import UnitNormAdam, learning_rate_factor
from ghosttrack.sae.ranks import gather


class LitBank(pl.LightningModule):
    """Trains a bank on batches `[hook batch d_model]` of raw activations.

    The step draws no random number. On a GPU it waits for the device only when it logs, every
    `log_every_n_steps`, and when `BankLoss` counts dead latents. A run that diverged stops when it
    logs, or before its checkpoint is written.

    Args:
        bank: Initialised.
        config: How a step goes.
        max_steps: Length of the learning rate's schedule.
        reduce: Ranks hold the same bank and share batches; false where each rank has whole batches
            of a bank of its own, and only what is logged is gathered.
    """

    def __init__(self, bank: Bank, config: SAEConfig, max_steps: int, reduce: bool = True) -> None:
        super().__init__()
        self.bank, self.config, self.max_steps, self.reduce = bank, config, max_steps, reduce
        self.loss = BankLoss(len(bank.hooks), config, reduce=reduce)
        self._since = (0, time.monotonic())

    def configure_optimizers(self) -> Any:  # noqa: ANN401 (Lightning's union of ten forms)
        """Adam with warm-up and linear decay, counted in steps."""
        config = self.config
        adam = UnitNormAdam(self.bank, config.lr, config.clip_norm)
        factor = learning_rate_factor(self.max_steps, config.warmup_frac, config.decay_frac)
        schedule = torch.optim.lr_scheduler.LambdaLR(adam, factor)
        return {"optimizer": adam, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """Start the clock."""
        self._since = (self.global_step, time.monotonic())

    def training_step(self, batch: Float[Tensor, "hook batch d_model"]) -> Tensor:
        """Compute the loss of one batch."""
        losses = self.loss(self.bank, batch)
        every = self.trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
        if (self.global_step + 1) % every == 0:
            self._log(losses, batch.shape[1] * (self.trainer.world_size if self.reduce else 1))
        return losses.loss

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to keep weights that are not finite."""
        sums = torch.stack([p.flatten(1).sum(1) for p in self.bank.parameters()]).sum(0)
        self._stop_if_diverged(dict(zip(self.bank.hooks, sums.tolist(), strict=True)))
        checkpoint["rng_state"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the random numbers up where they stood."""
        torch.set_rng_state(checkpoint["rng_state"].cpu())

    def _stop_if_diverged(self, values: Mapping[str, float]) -> None:
        for hook, value in values.items():
            if not math.isfinite(value):
                raise ConfigError(
                    f"sae.base_lr={self.config.base_lr}: training diverged at {hook} by step "
                    f"{self.global_step}; lower it, or look for NaN in the activations"
                )

    def _log(self, losses: Losses, batch_tokens: int) -> None:
        found = curves(self.bank.hooks, losses, reduce=self.reduce)
        self._stop_if_diverged(found.fvu)
        (step, then), now = self._since, time.monotonic()
        self._since = (self.global_step, now)
        speed = batch_tokens * (self.global_step - step) / (now - then)
        rest = {"lr": self.trainer.optimizers[0].param_groups[0]["lr"], "tokens_per_s": speed}
        self.log_dict(found.entries() | rest, rank_zero_only=True)


class Curves(NamedTuple):
    """A step's numbers, off its device; FVU and dead fraction are of the global batch."""

    fvu: dict[str, float]
    dead_frac: dict[str, float]
    loss: float

    def entries(self) -> dict[str, float]:
        """Name them as dashboards group them.

        >>> step = Curves({"layer_0": 0.25, "layer_1": 0.75}, {"layer_0": 0, "layer_1": 0.5}, 1.0)
        >>> step.entries()  # doctest: +NORMALIZE_WHITESPACE
        {'train/fvu/layer_0': 0.25, 'train/fvu/layer_1': 0.75, 'train/fvu_mean': 0.5,
         'train/fvu_max': 0.75, 'train/loss': 1.0, 'train/dead_frac': 0.25}
        """
        return {
            **{f"train/fvu/{hook}": value for hook, value in self.fvu.items()},
            "train/fvu_mean": sum(self.fvu.values()) / len(self.fvu),
            "train/fvu_max": max(self.fvu.values()),
            "train/loss": self.loss,
            "train/dead_frac": sum(self.dead_frac.values()) / len(self.dead_frac),
        }


def curves(hooks: Sequence[str], losses: Losses, *, reduce: bool) -> Curves:
    """Take a step's numbers over all ranks.

    Args:
        hooks: This rank's hook points.
        losses: Of this rank.
        reduce: Ranks share the batches of one bank; false where each has hook points of its own.
    """
    fvu, dead = (
        dict(zip(hooks, values.tolist(), strict=True)) for values in (losses.fvu, losses.dead_frac)
    )
    ranks = gather(Curves(fvu, dead, losses.loss.item()))
    loss = sum(rank.loss for rank in ranks)
    return Curves(
        union([rank.fvu for rank in ranks]),
        union([rank.dead_frac for rank in ranks]),
        loss / len(ranks) if reduce else loss,
    )


def union(ranks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Join what ranks say of their hook points; of one bank they all say the same."""
    return {hook: value for rank in ranks for hook, value in rank.items()}
