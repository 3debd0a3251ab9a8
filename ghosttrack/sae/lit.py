"""The bank's Lightning face."""

import math
import time
from collections.abc import Mapping
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor, distributed

from ghosttrack.errors import ConfigError
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.config import KernelChoice, SAEConfig
from ghosttrack.sae.loss import BankLoss, Losses
from ghosttrack.sae.optimiser import UnitNormAdam, learning_rate_factor
from ghosttrack.sae.products import choose

Value = TypeVar("Value")


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
        with_triton = choose(config, self.device) is KernelChoice.triton
        adam = UnitNormAdam(self.bank, config.lr, config.clip_norm, with_triton=with_triton)
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
        fvu, dead_frac = (
            dict(zip(self.bank.hooks, values.tolist(), strict=True))
            for values in (losses.fvu, losses.dead_frac)
        )
        fvus, dead_fracs, each = zip(*gather((fvu, dead_frac, losses.loss.item())), strict=True)
        fvu = {hook: value for rank in fvus for hook, value in rank.items()}
        dead_frac = {hook: value for rank in dead_fracs for hook, value in rank.items()}
        self._stop_if_diverged(fvu)
        (step, then), now = self._since, time.monotonic()
        self._since = (self.global_step, now)
        speed = batch_tokens * (self.global_step - step) / (now - then)
        rest = {"lr": self.trainer.optimizers[0].param_groups[0]["lr"], "tokens_per_s": speed}
        loss = sum(each) / len(each) if self.reduce else sum(each)
        self.log_dict(curves(fvu, dead_frac, loss) | rest, rank_zero_only=True)


def curves(
    fvu: Mapping[str, float], dead_frac: Mapping[str, float], loss: float
) -> dict[str, float]:
    """Name a step's numbers of the global batch as dashboards group them.

    >>> curves({"layer_0": 0.25, "layer_1": 0.75}, {"layer_0": 0.0, "layer_1": 0.5}, 1.0)
    ... # doctest: +NORMALIZE_WHITESPACE
    {'train/fvu/layer_0': 0.25, 'train/fvu/layer_1': 0.75, 'train/fvu_mean': 0.5,
     'train/fvu_max': 0.75, 'train/loss': 1.0, 'train/dead_frac': 0.25}
    """
    return {
        **{f"train/fvu/{hook}": value for hook, value in fvu.items()},
        "train/fvu_mean": sum(fvu.values()) / len(fvu),
        "train/fvu_max": max(fvu.values()),
        "train/loss": loss,
        "train/dead_frac": sum(dead_frac.values()) / len(dead_frac),
    }


def gather(value: Value) -> list[Value]:
    """Collect a small object from every rank, in their order; of one process, its own."""
    if not distributed.is_initialized():
        return [value]
    values = [value] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values
