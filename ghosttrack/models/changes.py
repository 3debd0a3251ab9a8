"""What an experiment does to the residual stream on its way through the blocks.

Free of torch: what reads results knows the interventions that are made of these.
"""

from enum import Enum
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
    """One change; equal ones on equal batches draw equal numbers."""

    kind: ChangeKind
    layer: int = -1
    """Block after which noise is added."""
    scale: float = 0.0
    seed: int = 0
    """Of the draw."""


MASK = Change(ChangeKind.mean)
"""Marked tokens say nothing in particular."""
