"""Settings of the SAE bank and of its training."""

from dataclasses import dataclass
from enum import Enum

from ghosttrack.errors import ConfigError


class Architecture(Enum):
    """Which latents of a token stay active."""

    topk = "topk"


class KernelChoice(Enum):
    """How a training step multiplies; the gradients are the same to rounding."""

    auto = "auto"
    dense = "dense"
    sparse = "sparse"


class Source(Enum):
    """Where training activations come from."""

    store = "store"
    stream = "stream"


@dataclass
class SAEConfig:
    """One bank: the same shape at every hook point."""

    architecture: Architecture
    d_sae: int
    """Latents per hook point."""
    k: int
    """Active latents per token."""
    batch_size: int
    """Tokens per step and hook point, over all ranks."""
    base_lr: float
    """Adam's learning rate at d_sae = 2^14; it scales as 1 / sqrt(d_sae / 2^14)."""
    warmup_frac: float
    """Share of the steps over which the learning rate rises from 0."""
    decay_frac: float
    """Share of the steps, at the end, over which it falls to 0."""
    clip_norm: float
    """Largest gradient norm per hook point."""
    auxk_coef: float
    """Weight of the loss by which dead latents come back; 0 turns it off."""
    dead_after_tokens: int
    """A latent silent for so many tokens is dead."""
    kernels: KernelChoice
    """`auto` takes sparse row operations where k / d_sae is small enough, GEMMs elsewhere."""

    @property
    def lr(self) -> float:
        """Adam's learning rate for this width."""
        return self.base_lr / (self.d_sae / 2**14) ** 0.5

    def __post_init__(self) -> None:
        if self.d_sae < 1:
            raise ConfigError(f"sae.d_sae must be at least 1, got {self.d_sae}")
        if not 1 <= self.k <= self.d_sae:
            raise ConfigError(f"sae.k must be in 1..sae.d_sae={self.d_sae}, got {self.k}")
        for field in ("batch_size", "dead_after_tokens"):
            if getattr(self, field) < 1:
                raise ConfigError(f"sae.{field} must be at least 1, got {getattr(self, field)}")
        for field in ("base_lr", "clip_norm"):
            if getattr(self, field) <= 0:
                raise ConfigError(f"sae.{field} must be above 0, got {getattr(self, field)}")
        for field in ("warmup_frac", "decay_frac"):
            if not 0 <= getattr(self, field) <= 1:
                raise ConfigError(f"sae.{field} must be in 0..1, got {getattr(self, field)}")
        if self.auxk_coef < 0:
            raise ConfigError(f"sae.auxk_coef must be at least 0, got {self.auxk_coef}")


@dataclass
class TrainRunConfig:
    """How the bank is fed."""

    source: Source
    """`store`: activations kept on disk; `stream`: the model runs beside training, no disk."""
    buffer_tokens: int
    """Tokens per hook point that the stream's shuffle buffer holds."""
    checkpoint_every: int
    """Steps between two resume points."""

    def __post_init__(self) -> None:
        for field in ("buffer_tokens", "checkpoint_every"):
            if getattr(self, field) < 1:
                raise ConfigError(f"train.{field} must be at least 1, got {getattr(self, field)}")
