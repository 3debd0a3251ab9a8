"""Context windows: cut from a corpus' tokens, read from the disk as asked, and batched."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int, Int32, Int64
from torch import Tensor

from ghosttrack.data.tokens import DocumentTable, read_tokens


class Padded(NamedTuple):
    """A batch of windows."""

    ids: Int[Tensor, "row pos"]
    mask: Bool[Tensor, "row pos"]
    """True where there is a token."""


class Windows(NamedTuple):
    """Context windows in memory, in flat arrays: window i is `ids[bounds[i]:bounds[i + 1]]`."""

    ids: Int32[np.ndarray, " token"]
    documents: Int32[np.ndarray, " token"]
    """Which document a token comes from: its place in the corpus as it was read."""
    bounds: Int64[np.ndarray, " window+1"]

    @property
    def lengths(self) -> Int64[np.ndarray, " window"]:
        """Tokens of each window, prefix included."""
        return np.diff(self.bounds)

    def padded(self, first: int, last: int) -> Padded:
        """Put windows `first` to `last` side by side, padded on the right with token 0."""
        bounds = self.bounds[first : last + 1]
        starts, lengths = bounds[:-1], np.diff(bounds)
        pos = np.arange(lengths.max())
        mask = pos < lengths[:, None]
        ids = np.where(mask, self.ids[np.minimum(starts[:, None] + pos, len(self.ids) - 1)], 0)
        return Padded(torch.from_numpy(ids).long(), torch.from_numpy(mask))


class Cut(NamedTuple):
    """How a stretch of text becomes windows."""

    context: int
    """Most tokens of a window, prefix included."""
    prefix: tuple[int, ...]
    """Stands at the head of every window."""
    skip_first: int
    """Leading positions of every window that are not kept."""

    @property
    def step(self) -> int:
        """Tokens of text in a whole window."""
        return self.context - len(self.prefix)

    def kept(self, n_tokens: int) -> int:
        """Count what is kept of a stretch of so many tokens."""
        whole, rest = divmod(n_tokens, self.step)
        of_rest = max(rest + len(self.prefix) - self.skip_first, 0) if rest else 0
        return whole * (self.context - self.skip_first) + of_rest


class StoredWindows:
    """Windows over a corpus' tokens on the disk; only what is asked for is in memory.

    Args:
        folder: Holds the tokens.
        table: The documents there.
        stretches: Documents `stretches[i]` to `stretches[i + 1]` follow one another in windows of
            their own.
        cut: How.
        n_tokens: The last window is cut so that exactly so many tokens are kept, where there are
            as many.
    """

    def __init__(
        self,
        folder: Path,
        table: DocumentTable,
        stretches: Int64[np.ndarray, " _"],
        cut: Cut,
        n_tokens: int,
    ) -> None:
        self.folder = folder
        self.table = table
        self.cut = cut
        edges = table.bounds[stretches]
        n_windows = -(-np.diff(edges) // cut.step)
        within = np.arange(n_windows.sum()) - np.repeat(n_windows.cumsum() - n_windows, n_windows)
        starts = np.repeat(edges[:-1], n_windows) + within * cut.step
        lengths = np.minimum(np.repeat(edges[1:], n_windows) - starts, cut.step) + len(cut.prefix)
        keeps = lengths > cut.skip_first
        starts, lengths = starts[keeps], lengths[keeps]
        kept = (lengths - cut.skip_first).cumsum()
        n_used = min(int(np.searchsorted(kept, n_tokens)) + 1, len(kept))
        self.starts, self.lengths = starts[:n_used], lengths[:n_used]
        if n_used:
            self.lengths[-1] -= max(int(kept[n_used - 1]) - n_tokens, 0)

    @property
    def kept(self) -> Int64[np.ndarray, " window"]:
        """Tokens of each window that a store keeps."""
        return self.lengths - self.cut.skip_first

    def first(self, n_tokens: int) -> Windows:
        """Read the first windows that keep so many tokens; by length, so that little is padded."""
        n_windows = min(int(np.searchsorted(self.kept.cumsum(), n_tokens)) + 1, len(self.lengths))
        return self.read(np.argsort(self.lengths[:n_windows], kind="stable"))

    def read(self, chosen: Int64[np.ndarray, " window"]) -> Windows:
        """Read some windows, in their order."""
        lengths, n_prefix = self.lengths[chosen], len(self.cut.prefix)
        bounds = np.concatenate([[0], lengths.cumsum()])
        within = np.arange(bounds[-1]) - np.repeat(bounds[:-1], lengths)
        # A prefix stands for no place of the text; it counts as of the document that follows it.
        places = np.repeat(self.starts[chosen], lengths) + np.maximum(within - n_prefix, 0)
        ids = read_tokens(self.folder, np.minimum(places, self.table.bounds[-1] - 1))
        for pos, token in enumerate(self.cut.prefix):
            ids[bounds[:-1] + pos] = token
        return Windows(ids, self.table.documents_of(places), bounds)
