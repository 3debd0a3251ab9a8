"""Training's faults that have a cure, in one line each."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ghosttrack.errors import ConfigError, GhostTrackError
from ghosttrack.sae.config import SAEConfig

NO_MEMORY = "DefaultCPUAllocator"
"""In what PyTorch says of a CPU without memory, by an error of no class of its own."""
LOST_RANK = ("by peer", "remote process exited")
"""In what gloo and NCCL say when another rank is gone."""


@contextmanager
def curable(config: SAEConfig) -> Iterator[None]:
    """Name the settings that make a step smaller, or what to do about a rank that ended.

    Raises:
        ConfigError: There is no memory for a step.
        GhostTrackError: Another rank ended; its own message, if it left one, says why.
    """
    try:
        yield
    except RuntimeError as error:
        said = str(error)
        if isinstance(error, torch.OutOfMemoryError) or NO_MEMORY in said:
            raise ConfigError(
                f"sae.batch_size={config.batch_size}: no memory for a step; lower it or"
                f" sae.d_sae={config.d_sae}, or train on more devices with trainer=layers (splits"
                " the bank) or trainer=ddp (splits batches)"
            ) from error
        if any(sign in said for sign in LOST_RANK):
            raise GhostTrackError(
                "another rank ended; the same command goes on from the last resume point"
            ) from error
        raise
