"""What a bank minimises, and the count of latents that have fallen silent."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ghosttrack.sae.architectures import BatchTopK, make_rule
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.config import SAEConfig
from ghosttrack.sae.products import choose
from ghosttrack.sae.ranks import Ranks
from ghosttrack.sae.select import LEAST_CUT
from ghosttrack.sae.step import BankStep, StepSettings

COUNT_EVERY = 16
"""Steps between two looks at how many latents are dead, on a GPU: each stalls it once."""
CUT_MOMENTUM = 0.9
"""Of the running mean of batches' cuts, by which tokens are selected one by one later; a cut is of
thousands of entries, so ten batches are enough and a short run has forgotten where it began."""


class Losses(NamedTuple):
    """One step; everything but `loss` is of the global batch and carries no gradient."""

    loss: Float[Tensor, ""]
    """Summed over hook points, so their gradients never mix; its mean over ranks is the loss."""
    fvu: Float[Tensor, " hook"]
    """Squared error of a token over d_model, which is the variance of the first sample."""
    dead_frac: Float[Tensor, " hook"]
    """Latents silent for `dead_after_tokens` before this step."""


class BankLoss(nn.Module):
    """Reconstruction error + auxk_coef AuxK, and what the architecture adds; see `sae.step`.

    `silent` counts, per latent, the tokens of all ranks since it last fired. It is equal on every
    rank and part of a checkpoint.

    Args:
        n_hooks: Hook points of the bank.
        config: Its settings.
        reduce: False if each rank trains hook points of its own.
    """

    silent: Tensor

    def __init__(self, n_hooks: int, config: SAEConfig, *, reduce: bool = True) -> None:
        super().__init__()
        self.config = config
        self.ranks = Ranks(reduce=reduce)
        self.rule = make_rule(config, self.ranks)
        cuts = [round(share * config.d_sae) for share in config.prefixes]
        self.sizes = [high - low for low, high in zip([0, *cuts], cuts, strict=False)]
        self.register_buffer("silent", torch.zeros(n_hooks, config.d_sae, dtype=torch.long))
        self._n_dead, self._n_steps = 0, 0

    def forward(self, bank: Bank, x: Float[Tensor, "hook batch d_model"]) -> Losses:
        """Compute the loss of raw activations; counts their tokens as a side effect."""
        dead = self.silent >= self.config.dead_after_tokens
        of = StepSettings(
            self.rule,
            self.sizes,
            choose(self.config, x.device),
            self.config.auxk_coef,
            self._count(dead),
            self.ranks,
        )
        loss, fvu, fired, cut = BankStep.apply(x, bank.scale, *bank.weights, dead, of)
        self.silent.add_(x.shape[1] * self.ranks.size).masked_fill_(fired, 0)
        if isinstance(self.rule, BatchTopK):
            self._follow(bank, cut)
        return Losses(loss.sum(), fvu, dead.float().mean(1))

    def _count(self, dead: Bool[Tensor, "hook d_sae"]) -> int:
        """Bound the dead latents of a hook point, for AuxK."""
        if self.config.auxk_coef == 0:
            return 0
        if dead.device.type == "cpu":
            return self.config.d_sae  # the step counts itself
        if self._n_steps % COUNT_EVERY == 0:
            self._n_dead = int(dead.sum(1).max())
        self._n_steps += 1
        return self._n_dead

    @torch.no_grad()
    def _follow(self, bank: Bank, cut: Float[Tensor, " hook"]) -> None:
        assert bank.log_threshold is not None
        cut = cut[:, None].clamp(min=LEAST_CUT)
        new = CUT_MOMENTUM * bank.log_threshold.exp() + (1 - CUT_MOMENTUM) * cut
        bank.log_threshold.copy_(new.log())
