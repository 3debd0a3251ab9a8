"""What a bank minimises, and the count of latents that have fallen silent."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn

from ghosttrack.sae.bank import Bank
from ghosttrack.sae.config import SAEConfig
from ghosttrack.sae.kernels import choose
from ghosttrack.sae.topk import StepSettings, TopKStep


class Losses(NamedTuple):
    """One step; everything but `loss` is of the global batch and carries no gradient."""

    loss: Float[Tensor, ""]
    """Summed over hook points, so their gradients never mix; its mean over ranks is the loss."""
    fvu: Float[Tensor, " hook"]
    """Squared error of a token over d_model, which is the variance of the first sample."""
    dead_frac: Float[Tensor, " hook"]
    """Latents silent for `dead_after_tokens`, after this step."""


def _world_size() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def total(tensor: Tensor) -> Tensor:
    """Sum over the ranks; the tensor itself in a single process."""
    if _world_size() > 1:
        distributed.all_reduce(tensor)
    return tensor


class TopKLoss(nn.Module):
    """FVU + auxk_coef AuxK of a TopK bank; see `ghosttrack.sae.topk`.

    `silent` counts, per latent, the tokens of all ranks since it last fired. It is equal on every
    rank and part of a checkpoint.
    """

    silent: Tensor

    def __init__(self, n_hooks: int, config: SAEConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("silent", torch.zeros(n_hooks, config.d_sae, dtype=torch.long))

    def forward(self, bank: Bank, x: Float[Tensor, "hook batch d_model"]) -> Losses:
        """Compute the loss of raw activations; counts their tokens as a side effect."""
        settings = StepSettings(
            bank.k,
            self.config.auxk_coef,
            choose(self.config.kernels, bank.k, bank.d_sae, x.device),
            total,
            _world_size(),
        )
        dead = self.silent >= self.config.dead_after_tokens
        loss, fvu, _, fired = TopKStep.apply(
            bank.standardise(x), bank.W_enc, bank.b_enc, bank.W_dec, bank.b_dec, dead, settings
        )
        n_tokens = x.shape[1] * settings.world_size
        self.silent.add_(n_tokens).masked_fill_(fired, 0)
        dead = self.silent >= self.config.dead_after_tokens
        return Losses(loss.sum(), fvu, dead.float().mean(1))
