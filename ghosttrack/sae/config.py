"""Settings of the SAE bank and of its training."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from ghosttrack.errors import ConfigError


class Architecture(Enum):
    """Which latents of a token stay active."""

    topk = "topk"
    """The k strongest of each token (Gao et al. 2024)."""
    batchtopk = "batchtopk"
    """The strongest of a batch, k per token on average (Bussmann et al. 2024)."""
    jumprelu = "jumprelu"
    """Those above a learned threshold per latent (Rajamanoharan et al. 2024)."""
    matryoshka = "matryoshka"
    """As batchtopk; the first latents also reconstruct alone (Bussmann et al. 2025)."""

    @property
    def has_threshold(self) -> bool:
        """Whether at inference each latent has a threshold, above which it is active."""
        return self is not Architecture.topk

    @property
    def learns_threshold(self) -> bool:
        """Whether it is a parameter; else the running mean of the batches' cuts."""
        return self is Architecture.jumprelu

    @property
    def is_sparse(self) -> bool:
        """Whether a step can leave out the inactive latents."""
        return self in (Architecture.topk, Architecture.batchtopk)


class KernelChoice(Enum):
    """How a training step multiplies; the gradients are the same to rounding."""

    auto = "auto"
    dense = "dense"
    """GEMMs over all latents."""
    sparse = "sparse"
    """Sparse operations of torch over the active ones."""
    compiled = "compiled"
    """Compiled row kernels over the active ones, on a CPU."""
    triton = "triton"
    """GEMMs beside Triton's row kernels, on a GPU."""


class Source(Enum):
    """Where training activations come from."""

    store = "store"
    stream = "stream"


class Precision(Enum):
    """Number format of the products in a training step; weights and optimiser stay fp32."""

    auto = "auto"
    fp32 = "32-true"
    bf16 = "bf16-mixed"


@dataclass
class SAEConfig:
    """One bank: the same shape at every hook point."""

    architecture: Architecture
    d_sae: int
    """Latents per hook point."""
    k: int
    """Active latents per token: exactly (topk) or on average."""
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
    """`auto` takes what is quickest for these shapes on this device."""
    seed: int
    """Of the weights that training begins with and of its batches."""
    prefixes: list[float] = dataclasses.field(default_factory=lambda: [1.0])
    """Shares of the latents, ascending to 1, that reconstruct alone (`matryoshka`)."""
    bandwidth: float | None = None
    """Width of the kernel that estimates a threshold's gradient (`jumprelu`), in standardised
    pre-activations."""
    l0_coef: float | None = None
    """Weight of (L0 / k - 1)^2 in the loss, by which thresholds find k (`jumprelu`)."""

    @property
    def lr(self) -> float:
        """Adam's learning rate for this width."""
        return self.base_lr / (self.d_sae / 2**14) ** 0.5

    def __post_init__(self) -> None:
        if self.d_sae < 1:
            raise ConfigError(f"sae.d_sae must be at least 1, got {self.d_sae}")
        if not 1 <= self.k <= self.d_sae:
            raise ConfigError(f"sae.k must be in 1..sae.d_sae={self.d_sae}, got {self.k}")
        self._check_architecture()
        counts, positive = ("batch_size", "dead_after_tokens"), ("base_lr", "clip_norm")
        shares, weights = ("warmup_frac", "decay_frac"), ("auxk_coef",)
        self._require(counts, "at least 1", lambda value: value >= 1)
        self._require(positive, "above 0", lambda value: value > 0)
        self._require(shares, "in 0..1", lambda value: 0 <= value <= 1)
        self._require(weights, "at least 0", lambda value: value >= 0)

    def _check_architecture(self) -> None:
        name = self.architecture.name
        for setting in ("bandwidth", "l0_coef"):
            value = getattr(self, setting)
            if self.architecture is not Architecture.jumprelu and value is not None:
                raise ConfigError(f"sae.{setting} is for sae=jumprelu, not {name}")
            if self.architecture is Architecture.jumprelu and not (value and value > 0):
                raise ConfigError(f"sae.{setting} must be above 0, got {value}")
        cuts = [round(share * self.d_sae) for share in self.prefixes]
        if not cuts or cuts[0] < 1 or cuts != sorted(set(cuts)) or cuts[-1] != self.d_sae:
            raise ConfigError(
                f"sae.prefixes must ascend to 1 by at least a latent each, got {self.prefixes}"
            )
        if len(cuts) > 1 and self.architecture is not Architecture.matryoshka:
            raise ConfigError(f"sae.prefixes is for sae=matryoshka, not {name}")
        is_sparse = self.kernels in (KernelChoice.sparse, KernelChoice.compiled)
        if is_sparse and not self.architecture.is_sparse:
            raise ConfigError(f"sae.kernels={self.kernels.name} is not for sae={name}: set dense")

    def _require(self, fields: tuple[str, ...], what: str, holds: Callable[[float], bool]) -> None:
        for field in fields:
            value = getattr(self, field)
            if not holds(value):
                raise ConfigError(f"sae.{field} must be {what}, got {value}")


@dataclass
class TrainRunConfig:
    """How the bank is fed."""

    source: Source
    """`store`: activations kept on disk; `stream`: the model runs beside training, no disk."""
    buffer_tokens: int
    """Tokens per hook point that the stream's shuffle buffer holds."""
    checkpoint_every: int | None
    """Steps between two resume points; null: none by steps."""
    checkpoint_minutes: float | None
    """Minutes between two resume points; null: none by time."""
    precision: Precision
    """`auto`: bf16 on a GPU, fp32 on a CPU."""

    def __post_init__(self) -> None:
        for field in ("buffer_tokens", "checkpoint_every"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ConfigError(f"train.{field} must be at least 1, got {value}")
        if self.checkpoint_minutes is not None and self.checkpoint_minutes <= 0:
            raise ConfigError(
                f"train.checkpoint_minutes must be above 0, got {self.checkpoint_minutes:g}"
            )
