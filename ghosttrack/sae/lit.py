"""The bank's Lightning face."""

import time
from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor

from ghosttrack.errors import ConfigError
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.config import SAEConfig
from ghosttrack.sae.loss import Losses, TopKLoss
from ghosttrack.sae.metrics import BankMetrics
from ghosttrack.sae.optimiser import UnitNormAdam, learning_rate_factor

METRIC_KEYS = (
    "train/loss", "train/fvu/{hook}", "train/fvu_mean", "train/fvu_max", "train/dead_frac",
    "heldout/fvu/{hook}", "heldout/fvu_mean", "heldout/fvu_max", "lr", "tokens_per_s",
)  # fmt: skip
"""Everything a run logs; `{hook}` stands for each hook point."""


class LitBank(pl.LightningModule):
    """Trains a bank on batches `[hook batch d_model]` of raw activations.

    The step draws no random number and synchronises with the host only when it logs, every
    `log_every_n_steps`; a run that diverged stops there, or before its checkpoint is written.
    """

    def __init__(self, bank: Bank, config: SAEConfig, max_steps: int) -> None:
        super().__init__()
        self.bank, self.config, self.max_steps = bank, config, max_steps
        self.loss = TopKLoss(len(bank.hooks), config)
        self.heldout = BankMetrics(bank.hooks, bank.d_model, bank.d_sae)
        self._since = (0, time.monotonic())

    def configure_optimizers(self) -> Any:  # noqa: ANN401 (Lightning's union of ten forms)
        """Adam with warm-up and linear decay, counted in steps."""
        config = self.config
        adam = UnitNormAdam(self.bank, config.lr, config.clip_norm)
        factor = learning_rate_factor(self.max_steps, config.warmup_frac, config.decay_frac)
        schedule = torch.optim.lr_scheduler.LambdaLR(adam, factor)
        return {"optimizer": adam, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: Float[Tensor, "hook batch d_model"]) -> Tensor:
        """Compute the loss of one batch."""
        losses = self.loss(self.bank, batch)
        every = self.trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
        if (self.global_step + 1) % every == 0:
            self._log(losses, batch.shape[1] * self.trainer.world_size)
        return losses.loss

    def validation_step(self, batch: Float[Tensor, "hook batch d_model"]) -> None:
        """Add held-out tokens to the metrics."""
        acts = self.bank.encode(batch)
        self.heldout.update(batch, self.bank.decode(acts), *acts)

    def on_validation_epoch_end(self) -> None:
        """Log the held-out FVU, over all ranks."""
        self._log_fvu("heldout", torch.tensor(self.heldout.per_hook()["fvu"]))
        self.heldout.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to keep weights that are not finite."""
        self._stop_if_diverged(torch.stack([p.flatten(1).sum(1) for p in self.bank.parameters()]))
        checkpoint["rng_state"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the random numbers up where they stood."""
        torch.set_rng_state(checkpoint["rng_state"].cpu())

    def _stop_if_diverged(self, values: Float[Tensor, "... hook"]) -> None:
        finite = values.isfinite().flatten(0, -2).all(0).tolist()
        for hook, is_finite in zip(self.bank.hooks, finite, strict=True):
            if not is_finite:
                raise ConfigError(
                    f"sae.base_lr={self.config.base_lr}: training diverged at {hook} by step "
                    f"{self.global_step}; lower it, or look for NaN in the activations"
                )

    def _log_fvu(self, split: str, fvu: Float[Tensor, " hook"]) -> None:
        hooks = {f"{split}/fvu/{hook}": v for hook, v in zip(self.bank.hooks, fvu, strict=True)}
        self.log_dict(hooks, rank_zero_only=True)
        summary = {f"{split}/fvu_mean": fvu.mean(), f"{split}/fvu_max": fvu.max()}
        self.log_dict(summary, prog_bar=True, rank_zero_only=True)

    def _log(self, losses: Losses, batch_tokens: int) -> None:
        self._stop_if_diverged(losses.fvu[None])
        (step, then), now = self._since, time.monotonic()
        self._since = (self.global_step, now)
        speed = batch_tokens * (self.global_step - step) / (now - then)
        self._log_fvu("train", losses.fvu)
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        rest = {"train/loss": losses.loss, "train/dead_frac": losses.dead_frac.mean(), "lr": lr}
        self.log_dict(rest, rank_zero_only=True)
        self.log("tokens_per_s", speed, prog_bar=True, rank_zero_only=True)
