"""Settings of the language model under study."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from ghosttrack.errors import ConfigError, check_folder_name


class Dtype(Enum):
    """Number format that the language model runs in."""

    fp32 = "float32"
    bf16 = "bfloat16"
    fp16 = "float16"


class Products(Enum):
    """Number format in which a GPU multiplies while a corpus is read; a CPU multiplies in fp32.

    Weights and residual streams stay in `Dtype`.
    """

    fp32 = "fp32"
    tf32 = "tf32"
    """Factors of 10 bits."""
    bf16 = "bf16"
    """Factors of 8 bits, attention included."""


@dataclass
class TrainingConfig:
    """Defaults of an SAE bank's training that depend on the model; other groups interpolate them.

    `d_sae` is beside them, as a width of the model.
    """

    k: int
    """Active latents per token: `sae.k`."""
    batch_size: int
    """Tokens per step and hook point: `sae.batch_size`."""
    base_lr: float
    """Adam's learning rate at d_sae = 2^14: `sae.base_lr`."""
    dead_after_tokens: int
    """Tokens after which a silent latent is dead: `sae.dead_after_tokens`."""
    max_steps: int
    """Length of training: `trainer.max_steps`."""
    checkpoint_every: int | None
    """Steps between two resume points, each three times a bank's size: `train.checkpoint_every`."""


@dataclass
class WorldConfig:
    """A generated world that a model is trained on: the fields of `world.facts.WorldSpec`."""

    seed: int
    head: int
    mid: int
    rare: int
    unseen: int
    head_exposure: int
    mid_exposure: int
    rare_exposure_min: int
    rare_exposure_max: int
    n_values: int
    zipf: float
    gap_frac: float


class ModelSource(NamedTuple):
    """Where a model comes from: of `ModelConfig`, what finds it."""

    path: str | None
    hub: str | None
    revision: str | None
    trust_remote_code: bool


@dataclass
class ModelConfig:
    """Which causal language model, and the sizes that follow from it."""

    name: str
    """Names the folder under `output_root` that holds everything made with this model."""
    hub: str | None
    """Hugging Face id of the preset; null for the embedded model."""
    path: str | None
    """Local folder, GGUF file or hub id to load instead of the preset; sizes then are its own."""
    revision: str | None
    """Git revision on the hub; null takes the default branch."""
    n_layers: int | None
    """Transformer blocks of the preset, checked against the loaded model unless `path` is set; null
    takes the model's own word."""
    d_model: int | None
    """Width of the preset's residual stream; likewise."""
    context: int
    """Tokens per context window in extraction."""
    d_sae: int
    """Default SAE width for this model; `sae.d_sae` interpolates it."""
    extract_batch_size: int
    """Default sequences per forward pass; `extract.batch_size` interpolates it."""
    training: TrainingConfig
    dtype: Dtype
    """Number format of weights and activations."""
    products: Products
    """Number format of products while a corpus is read; `store.products` interpolates it."""
    device: str
    """Where it runs: `auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:<n>`."""
    prepend_bos: bool | None
    """Start every text with the tokenizer's BOS token (EOS where there is none); null does as the
    tokenizer does by itself."""
    trust_remote_code: bool
    """Run model code that comes with a hub repository; off unless you trust it."""
    world: WorldConfig | None = None
    """A world whose model is trained here, with the sizes of the preset, where it is missing."""

    def __post_init__(self) -> None:
        check_folder_name("model.name", self.name)
        if self.world is not None and (named := self.path or self.hub):
            raise ConfigError(f"model.world is of a model that is trained here; drop {named}")
        for field in ("n_layers", "d_model", "context", "d_sae", "extract_batch_size"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ConfigError(f"model.{field} must be at least 1, got {value}")
