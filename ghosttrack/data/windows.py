"""Context windows in flat arrays, and batches of them."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int, Int32, Int64
from torch import Tensor

TokenIds = Int32[np.ndarray, " _"]


class Padded(NamedTuple):
    """A batch of windows."""

    ids: Int[Tensor, "row pos"]
    mask: Bool[Tensor, "row pos"]
    """True where there is a token."""


class Windows(NamedTuple):
    """Context windows in one flat array: window i is `ids[bounds[i]:bounds[i + 1]]`."""

    ids: TokenIds
    bounds: Int64[np.ndarray, " window+1"]
    documents: Int32[np.ndarray, " window"]
    """Which document a window comes from: its place in the corpus as it was read."""

    @property
    def lengths(self) -> Int64[np.ndarray, " window"]:
        """Tokens of each window, prefix included."""
        return np.diff(self.bounds)

    def kept(self, skip_first: int) -> Int64[np.ndarray, " window"]:
        """Tokens of each window that a store keeps."""
        return np.maximum(self.lengths - skip_first, 0)

    def padded(self, chosen: Int64[np.ndarray, " row"]) -> Padded:
        """Put some windows side by side, padded on the right with token 0."""
        starts = self.bounds[chosen]
        lengths = self.bounds[chosen + 1] - starts
        pos = np.arange(lengths.max())
        mask = pos < lengths[:, None]
        ids = np.where(mask, self.ids[np.minimum(starts[:, None] + pos, len(self.ids) - 1)], 0)
        return Padded(torch.from_numpy(ids).long(), torch.from_numpy(mask))
