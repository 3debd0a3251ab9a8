"""Whether a GPU has room for the training of a bank, told before anything is allocated."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch

from ghosttrack.config import TrainProgram
from ghosttrack.data.config import TextCorpus
from ghosttrack.data.store import torch_dtype
from ghosttrack.errors import ConfigError
from ghosttrack.sae.config import Precision, SAEConfig, Source
from ghosttrack.training.trace import trace_step

WEIGHT_BYTES, MOMENT_BYTES = 8, 8
"""Of a parameter: weight and gradient, and Adam's two moments, all fp32."""
VOCABULARY = 2**16
"""Tokens that a model's embedding is taken to have."""
USABLE = 0.95
"""Of a GPU's memory: the rest goes to CUDA itself, and to holes."""


@dataclass(frozen=True)
class StreamModel:
    """A language model on the GPU beside training, and what it has read."""

    n_layers: int
    d_model: int
    dtype: torch.dtype
    pass_tokens: int
    buffer_row_bytes: int
    """Of a token in the buffer, at one hook point; 0 where there is no buffer."""

    @property
    def n_bytes(self) -> int:
        """Count weights (12 d_model^2 a block, and the embedding) and the streams of a pass."""
        weights = 12 * self.n_layers * self.d_model**2 + VOCABULARY * self.d_model
        streams = 3 * self.pass_tokens * self.n_layers * self.d_model
        return self.dtype.itemsize * (weights + streams)


@dataclass(frozen=True)
class MemoryPlan:
    """What one GPU is to hold at once."""

    sae: SAEConfig
    n_hooks: int
    """Of this rank."""
    d_model: int
    n_rows: int
    """Of a batch, of this rank."""
    products: torch.dtype | None
    reader: StreamModel | None
    """None: a store is read."""
    buffer_tokens: int
    n_owners: int = 1
    """Ranks that share the moments."""

    @property
    def state_bytes(self) -> int:
        """Count weights, gradients and moments."""
        d_sae = self.sae.d_sae
        n_parameters = self.n_hooks * (2 * self.d_model * d_sae + d_sae + self.d_model)
        return n_parameters * (WEIGHT_BYTES + MOMENT_BYTES // self.n_owners)

    @cached_property
    def step_bytes(self) -> int:
        """Trace what a step holds besides."""
        shape = self.n_hooks, self.d_model, self.n_rows
        return trace_step(self.sae, *shape, self.products).held_bytes

    @property
    def buffer_bytes(self) -> int:
        """Count the tokens at hand."""
        row = self.reader.buffer_row_bytes if self.reader else 0
        return self.buffer_tokens * self.n_hooks * row

    @property
    def n_bytes(self) -> int:
        """Count all of it."""
        read = self.reader.n_bytes if self.reader else 0
        return self.state_bytes + self.step_bytes + self.buffer_bytes + read

    def on(self, n_devices: int) -> "MemoryPlan":
        """Share the hook points with other devices."""
        return replace(self, n_hooks=-(-self.n_hooks // n_devices))


def what_fits(plan: MemoryPlan, capacity_bytes: int) -> list[str]:
    """Name the least change of each kind by which a plan fits, as it is typed."""
    found: list[str] = []
    batches = [plan.n_rows >> i for i in range(1, 6)]
    smaller = [one for one in batches if replace(plan, n_rows=one).n_bytes <= capacity_bytes]
    if smaller:
        found.append(f"sae.batch_size={plan.sae.batch_size * smaller[0] // plan.n_rows}")
    counts = range(2, min(plan.n_hooks, 8) + 1)
    devices = [n for n in counts if plan.on(n).n_bytes <= capacity_bytes]
    if devices:
        found.append(f"trainer=layers trainer.devices={devices[0]}")
    reader = plan.reader
    if reader and reader.dtype.itemsize > 2:
        narrow = replace(plan, reader=replace(reader, dtype=torch.bfloat16))
        found += ["model.dtype=bf16"] if narrow.n_bytes <= capacity_bytes else []
    buffers = [plan.buffer_tokens >> i for i in range(1, 4)] if plan.buffer_bytes else []
    short = [one for one in buffers if replace(plan, buffer_tokens=one).n_bytes <= capacity_bytes]
    if short:
        found.append(f"train.buffer_tokens={short[0]}")
    return found or ["a smaller sae.d_sae, or fewer layers"]


def check_capacity(plan: MemoryPlan, capacity_bytes: int, device: str) -> None:
    """Refuse a plan for which a GPU is too small.

    Raises:
        ConfigError: Says what is needed, for what, and what would fit.
    """
    usable = int(USABLE * capacity_bytes)
    if plan.n_bytes <= usable:
        return
    parts = {
        "weights, gradients and Adam": plan.state_bytes,
        "a step": plan.step_bytes,
        "the buffer": plan.buffer_bytes,
        "the language model": plan.reader.n_bytes if plan.reader else 0,
    }
    told = ", ".join(f"{size / 1e9:.1f} for {name}" for name, size in parts.items() if size)
    raise ConfigError(
        f"sae.batch_size={plan.sae.batch_size} and sae.d_sae={plan.sae.d_sae}: about"
        f" {plan.n_bytes / 1e9:.1f} GB are needed ({told}), {device} has"
        f" {capacity_bytes / 1e9:.1f}; what fits: {', or '.join(what_fits(plan, usable))}"
    )


def plan_of(
    config: TrainProgram,
    n_hooks: int,
    d_model: int,
    n_layers: int,
    n_rows: int,
    products: Precision,
) -> MemoryPlan:
    """Put together what one GPU is to hold.

    Args:
        config: Of the run.
        n_hooks: Of one rank.
        d_model: Width of the activations.
        n_layers: Of the language model.
        n_rows: Of a batch, of one rank.
        products: As `train.precision` was resolved.
    """
    reader = None
    corpus = config.corpus
    if config.train.source is Source.stream and isinstance(corpus, TextCorpus):
        windows = config.extract.batch_size
        n_tokens = corpus.context * (1 if windows == "auto" else windows)
        dtype = getattr(torch, config.model.dtype.value)
        row = d_model * torch_dtype(config.store.dtype).itemsize
        reader = StreamModel(n_layers, d_model, dtype, n_tokens, row)
    format_ = torch.bfloat16 if products is Precision.bf16 else None
    return MemoryPlan(
        config.sae, n_hooks, d_model, n_rows, format_, reader, config.train.buffer_tokens
    )
