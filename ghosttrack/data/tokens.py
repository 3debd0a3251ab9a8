"""A corpus' token ids on the disk, written document by document and gone on with after a kill."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Int64

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

    def documents_of(self, tokens: Int64[np.ndarray, " token"]) -> Int32[np.ndarray, " token"]:
        """Name each token's document by its place in the corpus."""
        found = np.searchsorted(self.bounds, tokens, side="right") - 1
        return self.places[np.minimum(found, len(self.places) - 1)].astype(np.int32)


def read_tokens(folder: Path, places: Int64[np.ndarray, " token"]) -> Int32[np.ndarray, " token"]:
    """Read the tokens at some places; the file is mapped no longer than that takes."""
    mapped = np.memmap(folder / TOKENS, dtype="<i4", mode="r")
    return mapped[places].astype(np.int32)


class TokenFile:
    """Documents' tokens, appended in batches; after a kill those that are whole are found again.

    Args:
        folder: Gets the two files.
    """

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
