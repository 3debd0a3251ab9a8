"""Small banks, and a source of activations that are sparse sums of known directions."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ghosttrack.sae.bank import Bank, initialise
from ghosttrack.sae.config import Architecture, KernelChoice, SAEConfig


def sae_config(**changes) -> SAEConfig:
    values = {
        "architecture": Architecture.topk,
        "d_sae": 64,
        "k": 4,
        "batch_size": 128,
        "base_lr": 3e-4,
        "warmup_frac": 0.1,
        "decay_frac": 0.2,
        "clip_norm": 1.0,
        "auxk_coef": 1 / 32,
        "dead_after_tokens": 1000,
        "kernels": KernelChoice.auto,
        "seed": 0,
    }
    return SAEConfig(**{**values, **changes})


def activations(
    n: int, *, n_hooks: int = 2, d_model: int = 16, seed: int = 0
) -> Float[Tensor, "hook n d_model"]:
    """Three of 40 directions at a time, off the origin; `seed` moves all but the directions."""
    fixed = torch.Generator().manual_seed(7)
    directions = F.normalize(torch.randn(n_hooks, 40, d_model, generator=fixed), dim=-1)
    centre = 5 * torch.randn(n_hooks, 1, d_model, generator=fixed)
    drawn = torch.Generator().manual_seed(seed)
    live = torch.rand(n, 40, generator=drawn).argsort(1)[:, :3]
    values = 3 * torch.rand(n, 3, generator=drawn) + 1
    acts = torch.zeros(n, 40).scatter_(1, live, values)
    noise = 0.05 * torch.randn(n_hooks, n, d_model, generator=drawn)
    return acts @ directions + centre + noise


def small_bank(
    seed: int = 0, k: int = 4, d_sae: int = 64, architecture: Architecture = Architecture.topk
) -> Bank:
    bank = Bank(["layer_0", "layer_3"], d_model=16, d_sae=d_sae, k=k, architecture=architecture)
    initialise(bank, activations(512), seed)
    with torch.no_grad():
        bank.b_enc.normal_(std=0.1, generator=torch.Generator().manual_seed(seed))
    return bank


class Batches:
    """Shuffled batches that depend on the step alone; a loader with state, like the sources'."""

    def __init__(self, x: Tensor, batch_size: int, n_steps: int, rank: int = 0, world: int = 1):
        self.x, self.batch_size, self.n_steps = x, batch_size, n_steps
        self.rank, self.world, self.step = rank, world, 0

    def __len__(self) -> int:
        return self.n_steps

    def __iter__(self) -> Iterator[Tensor]:
        while self.step < self.n_steps:
            order = torch.randint(
                self.x.shape[1],
                (self.batch_size,),
                generator=torch.Generator().manual_seed(self.step),
            )
            self.step += 1
            yield self.x[:, order[self.rank :: self.world]]

    def state_dict(self) -> dict[str, int]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.step = state["step"]
