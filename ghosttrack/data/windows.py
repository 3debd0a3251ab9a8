"""A corpus' token ids on the disk, and the context windows that are cut from them."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int, Int32, Int64
from torch import Tensor

TOKENS = "tokens.bin"
"""Token ids of one document after the other: little-endian int32."""
TOKEN_BYTES = 4
DOCUMENTS = "documents.bin"
"""Of each document its place in the corpus and its end among the tokens: little-endian int64."""


class DocumentTable(NamedTuple):
    """Where each document lies among the tokens: document i is `bounds[i]:bounds[i + 1]`."""

    bounds: Int64[np.ndarray, " _"]
    places: Int64[np.ndarray, " document"]
    """Place of each document in the corpus as it was read."""

    @classmethod
    def read(cls, folder: Path) -> "DocumentTable":
        """Read what `TokenFile` wrote."""
        rows = np.fromfile(folder / DOCUMENTS, dtype="<i8").reshape(-1, 2).astype(np.int64)
        return cls(np.concatenate([[0], rows[:, 1]]), rows[:, 0].copy())

    @property
    def lengths(self) -> Int64[np.ndarray, " document"]:
        """Tokens of each document."""
        return np.diff(self.bounds)

    def cut(self, token: int) -> "DocumentTable":
        """Part the document that goes on at a token there; both parts bear its place."""
        at = int(np.searchsorted(self.bounds, token, side="right")) - 1
        if self.bounds[at] == token:
            return self
        places = np.insert(self.places, at, self.places[at])
        return DocumentTable(np.insert(self.bounds, at + 1, token), places)

    def documents_of(self, tokens: Int64[np.ndarray, " token"]) -> Int32[np.ndarray, " token"]:
        """Name each token's document by its place in the corpus."""
        found = np.searchsorted(self.bounds, tokens, side="right") - 1
        return self.places[np.minimum(found, len(self.places) - 1)].astype(np.int32)


def read_tokens(folder: Path, places: Int64[np.ndarray, " token"]) -> Int32[np.ndarray, " token"]:
    """Read the tokens at some places; the file is mapped no longer than that takes."""
    mapped = np.memmap(folder / TOKENS, dtype="<i4", mode="r")
    return mapped[places].astype(np.int32)


class TokenFile:
    """Documents' tokens, appended in batches; after a kill those that are whole are found again."""

    def __init__(self, folder: Path) -> None:
        self.tokens = (folder / TOKENS).open("ab")
        self.documents = (folder / DOCUMENTS).open("ab")
        rows = np.fromfile(folder / DOCUMENTS, dtype="<i8")
        ends = rows[: len(rows) // 2 * 2].reshape(-1, 2)[:, 1]
        self.found = ends[ends * TOKEN_BYTES <= (folder / TOKENS).stat().st_size]
        """Where each document ends that was there."""
        self.end = 0

    def close(self) -> None:
        """Close both files."""
        self.tokens.close()
        self.documents.close()

    def lengths(self, first: int, last: int) -> list[int] | None:
        """Count the tokens of documents `first` to `last`; None where not all of them are there."""
        if last > len(self.found):
            return None
        start = self.found[first - 1] if first else 0
        return np.diff(self.found[first:last], prepend=start).tolist()

    def keep(self, n_documents: int) -> None:
        """Forget what was found beyond the first documents; appending begins there."""
        self.found = self.found[:n_documents]
        self.end = int(self.found[-1]) if n_documents else 0
        self.documents.truncate(n_documents * 16)
        self.tokens.truncate(self.end * TOKEN_BYTES)

    def append(self, places: Sequence[int], documents: Sequence[Sequence[int]]) -> None:
        """Write a batch: its tokens before what says that they are there."""
        lengths = [len(ids) for ids in documents]
        ends = self.end + np.cumsum(lengths)
        ids = np.fromiter(itertools.chain.from_iterable(documents), dtype="<i4", count=sum(lengths))
        self.tokens.write(ids.tobytes())
        self.tokens.flush()
        self.documents.write(np.stack([places, ends], axis=1).astype("<i8").tobytes())
        self.documents.flush()
        self.end += sum(lengths)


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
        stretches: Documents `stretches[i]` to `stretches[i + 1]` follow one another in windows of
            their own.
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
