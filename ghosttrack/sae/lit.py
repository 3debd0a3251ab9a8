"""The bank's Lightning face."""

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor, distributed
from torch.nn import functional

from ghosttrack.errors import ConfigError
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.config import KernelChoice, SAEConfig
from ghosttrack.sae.loss import BankLoss, Losses
from ghosttrack.sae.optimiser import UnitNormAdam, learning_rate_factor
from ghosttrack.sae.products import choose
from ghosttrack.sae.sharded import ShardedAdam

Value = TypeVar("Value")


BEHIND = 8
"""Steps after which what a step logs on a GPU is read: it has long been copied, nothing waits."""


class Reading(NamedTuple):
    """What a step logs, on its way to the host."""

    step: int
    seconds: float
    """When it was taken."""
    lr: float
    values: Float[Tensor, "rank value"]
    """Each rank's FVUs, shares of dead latents, and loss; see `LitBank._taken`."""
    copied: torch.cuda.Event | None
    """None: they are there."""


class LitBank(pl.LightningModule):
    """Trains a bank on batches `[hook batch d_model]` of raw activations.

    The step draws no random number. On a GPU it waits for the device only when `BankLoss` counts
    dead latents; what it logs, every `log_every_n_steps`, is read `BEHIND` steps later. A run that
    diverged stops when that is read, or before its checkpoint is written.

    Args:
        shares: Hook points of every rank where each has whole batches of a bank of its own, and
            only what is logged is gathered. None: ranks hold the same bank and share batches.
        owned: Of ranks that share batches, the hook points that each moves; None: each moves all.

    Attributes:
        latest: The numbers that were logged last, by name.
    """

    def __init__(
        self,
        bank: Bank,
        config: SAEConfig,
        max_steps: int,
        shares: Sequence[Sequence[str]] | None = None,
        owned: Sequence[slice] | None = None,
    ) -> None:
        super().__init__()
        self.owned = owned
        self.bank, self.config, self.max_steps, self.shares = bank, config, max_steps, shares
        self.loss = BankLoss(len(bank.hooks), config, reduce=shares is None)
        self.latest: dict[str, float] = {}
        self._since = (0, time.monotonic())
        self._readings: deque[Reading] = deque()

    def configure_optimizers(self) -> Any:  # noqa: ANN401 (Lightning's union of ten forms)
        """Adam with warm-up and linear decay, counted in steps."""
        config = self.config
        settings = self.bank, config.lr, config.clip_norm
        with_triton = choose(config, self.device) is KernelChoice.triton
        if self.owned is None:
            adam = UnitNormAdam(*settings, with_triton=with_triton)
        else:
            ranks = self.owned, self.trainer.global_rank
            adam = ShardedAdam(*settings, *ranks, with_triton=with_triton)
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
            self._readings.append(self._taken(losses))
        self._log(BEHIND if batch.is_cuda else 0)
        return losses.loss

    def on_train_end(self) -> None:
        """Log what is left, and give every rank the whole bank."""
        self._log(0)
        self._share()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to keep weights that are not finite."""
        self._log(0)
        self._share()
        sums = torch.stack([p.flatten(1).sum(1) for p in self.bank.parameters()]).sum(0)
        self._stop_if_diverged(dict(zip(self.bank.hooks, sums.tolist(), strict=True)))
        checkpoint["rng_state"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the random numbers up where they stood."""
        torch.set_rng_state(checkpoint["rng_state"].cpu())

    def _share(self) -> None:
        for adam in self.trainer.optimizers:
            if isinstance(adam, ShardedAdam):
                adam.share()

    def _stop_if_diverged(self, values: Mapping[str, float]) -> None:
        for hook, value in values.items():
            if not math.isfinite(value):
                raise ConfigError(
                    f"sae.base_lr={self.config.base_lr}: training diverged at {hook} by step "
                    f"{self.global_step}; lower it, or look for NaN in the activations"
                )

    def _taken(self, losses: Losses) -> Reading:
        """Gather a step's numbers, and have them copied to the host beside what follows."""
        width = max(map(len, self.shares or [self.bank.hooks]))
        columns = (losses.fvu, losses.dead_frac)
        padded = [functional.pad(one, (0, width - len(one))) for one in columns]
        values = all_ranks(torch.cat([*padded, losses.loss.detach()[None]]))
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        copied = None
        if values.is_cuda:
            values = torch.empty_like(values, device="cpu", pin_memory=True).copy_(values, True)
            copied = torch.cuda.Event()
            copied.record()
        return Reading(self.global_step, time.monotonic(), lr, values, copied)

    def _log(self, behind: int) -> None:
        """Log what was taken so many steps ago."""
        while self._readings and self.global_step - self._readings[0].step >= behind:
            one = self._readings.popleft()
            if one.copied is not None:
                one.copied.synchronize()
            fvu, dead_frac, losses = self._by_hook(one.values.tolist())
            self._stop_if_diverged(fvu)
            (step, then), self._since = self._since, (one.step, one.seconds)
            speed = self.config.batch_size * (one.step - step) / (one.seconds - then)
            loss = sum(losses) / len(losses) if self.shares is None else sum(losses)
            rest = {"lr": one.lr, "tokens_per_s": speed}
            self.latest = curves(fvu, dead_frac, loss) | rest
            for logger in self.trainer.loggers:
                logger.log_metrics(self.latest, step=one.step)

    def _by_hook(
        self, ranks: list[list[float]]
    ) -> tuple[dict[str, float], dict[str, float], list[float]]:
        """Undo `_taken`; ranks that share batches have all but the loss alike."""
        fvu: dict[str, float] = {}
        dead_frac: dict[str, float] = {}
        for hooks, row in zip(self.shares or [self.bank.hooks], ranks, strict=False):
            width = len(row) // 2
            fvu |= zip(hooks, row, strict=False)
            dead_frac |= zip(hooks, row[width:], strict=False)
        return fvu, dead_frac, [row[-1] for row in ranks]


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


def all_ranks(values: Float[Tensor, " value"]) -> Float[Tensor, "rank value"]:
    """Collect the ranks' tensors of one shape where they are; nothing waits for a GPU."""
    if not distributed.is_initialized():
        return values[None]
    parts = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, values)
    return torch.stack(parts)


def gather(value: Value) -> list[Value]:
    """Collect a small object from every rank, in their order; of one process, its own."""
    if not distributed.is_initialized():
        return [value]
    values = [value] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values
