"""A corpus' token ids on the disk, written document by document and gone on with after a kill."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Int64

TOKENS = "tokens.bin"
"""Token ids of one document after the other: little-endian int32."""
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
    """Documents' tokens, appended in batches; after a kill whole batches are found again.

    Args:
        folder: Gets the two files.
        batch: Documents of a batch.
    """

    def __init__(self, folder: Path, batch: int) -> None:
        self.tokens = (folder / TOKENS).open("ab")
        self.documents = (folder / DOCUMENTS).open("ab")
        rows = np.fromfile(folder / DOCUMENTS, dtype="<i8")
        n_found = len(rows) // 2 // batch * batch
        self.documents.truncate(n_found * 16)
        ends = rows[: 2 * n_found].reshape(-1, 2)[:, 1]
        self.n_tokens = int(ends[-1]) if n_found else 0
        self.tokens.truncate(self.n_tokens * 4)
        self.found: list[int] = np.diff(ends, prepend=0).tolist()
        """Tokens of each document that was there."""

    def __enter__(self) -> "TokenFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.tokens.close()
        self.documents.close()

    def append(self, places: Sequence[int], documents: Sequence[Sequence[int]]) -> None:
        """Write a batch: its tokens before what says that they are there."""
        lengths = [len(ids) for ids in documents]
        ends = self.n_tokens + np.cumsum(lengths)
        ids = np.fromiter(itertools.chain.from_iterable(documents), dtype="<i4", count=sum(lengths))
        self.tokens.write(ids.tobytes())
        self.tokens.flush()
        self.documents.write(np.stack([places, ends], axis=1).astype("<i8").tobytes())
        self.documents.flush()
        self.n_tokens += sum(lengths)
