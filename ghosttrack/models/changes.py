"""What an experiment does to the residual stream on its way through the blocks.

Free of torch: what reads results knows the interventions that are made of these.
"""

from collections.abc import Sequence
from enum import Enum
from hashlib import sha256
from typing import NamedTuple


class ChangeKind(Enum):
    """What is done, and where."""

    mean = "mean"
    """Marked tokens enter as the mean token embedding."""
    noise = "noise"
    """Gaussian noise at marked positions after one block, `scale` times as long as the stream."""
    dropout = "dropout"
    """Every entry of what a block adds is left out with probability `scale`, at all blocks and
    positions; what is left grows by 1 / (1 - scale)."""


class Change(NamedTuple):
    """One change; what it draws for a text does not hang on what else is read."""

    kind: ChangeKind
    layer: int = -1
    """Block after which noise is added."""
    scale: float = 0.0
    seed: int = 0
    """Of the draws, together with the prompt's tokens (`draws_for`)."""

    def draws_for(self, prompt: Sequence[int]) -> int:
        """Make the seed of what is drawn for one prompt, a signed number of 64 bits."""
        if self.kind is ChangeKind.mean:
            return 0
        digest = sha256(f"{self.seed}: {list(prompt)}".encode()).digest()
        return int.from_bytes(digest[:8], "little", signed=True)


MASK = Change(ChangeKind.mean)
"""Marked tokens say nothing in particular."""
