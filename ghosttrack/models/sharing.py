"""Passes that read no token twice: no beginning of another text, none that many texts share."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from operator import eq
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from ghosttrack.models.changes import Change, ChangeKind
from ghosttrack.models.hooks import Changed
from ghosttrack.models.lm import LM

T = TypeVar("T")
Tokens = tuple[int, ...]

LEAST_SHARED = 8
"""Tokens of a beginning that is looked at."""
LEAST_SAVED = 256
"""Tokens that a beginning must save: each costs a pass of its own, and parts a batch."""
MOST_PADDING = 0.25
"""Share of what a batch reads and writes."""
SHARED_COST = 8
"""Tokens that are known already and take as much as one that is read: each row holds them."""


class Together(NamedTuple):
    """Texts that are read together."""

    rows: list[int]
    shared: Tokens
    """What all of them begin with."""


class TextToRead(NamedTuple):
    """Tokens, and where they are looked at."""

    tokens: Tokens
    start: int
    """First position that is looked at."""
    marked: Tokens = ()
    """Positions that a change is about."""
    seed: int = 0
    """Of what the change draws; texts of different ones are read apart."""


class TextPass(NamedTuple):
    """Residual streams of texts of about equal length; what stands after a text is arbitrary."""

    asked: Int[np.ndarray, " asked"]
    """Numbers of the texts that can be read here: these, and those that begin them."""
    row: Int[np.ndarray, " asked"]
    """Where the streams of each stand."""
    first: int
    """Position in the texts of the streams' first."""
    streams: Float[Tensor, "layer row pos d_model"]
    n_tokens: int
    """Of the texts, what they share included."""


def passes(
    lm: LM,
    texts: Sequence[TextToRead],
    layers: Sequence[int],
    change: Change | None = None,
    batch_tokens: int | None = None,
) -> Iterator[TextPass]:
    """Read every text once, in an order in which some tell how long the others will take.

    Args:
        lm: The model.
        texts: None empty.
        layers: Blocks whose residual streams are read.
        change: Done to the streams.
        batch_tokens: Per pass; None: as the model takes best.
    """
    rows, row_of = fewest(texts)
    by_row = np.argsort(row_of, kind="stable")
    starts = np.searchsorted(row_of[by_row], np.arange(len(rows) + 1))
    for members, past in _batches(lm, rows, change, batch_tokens or lm.batch_tokens):
        batch = [rows[row] for row in members]
        n_shared = past.get_seq_length() if past else 0
        lengths = [len(text.tokens) for text in batch]
        ids = torch.zeros(len(batch), max(lengths) - n_shared, dtype=torch.long)
        marked, mask = ids.bool(), ids.bool()
        for at, text in enumerate(batch):
            ids[at, : lengths[at] - n_shared] = torch.tensor(text.tokens[n_shared:])
            mask[at, : lengths[at] - n_shared] = True
            marked[at, [place - n_shared for place in text.marked]] = True
        seeds = torch.tensor([text.seed for text in batch])
        done = None if change is None else Changed(change, marked, seeds)
        streams = lm.residuals(ids, mask, layers, change=done, past=past)
        asked = [by_row[starts[row] : starts[row + 1]] for row in members]
        at = np.repeat(np.arange(len(batch)), [len(one) for one in asked])
        yield TextPass(np.concatenate(asked), at, n_shared, streams, sum(lengths))


def fewest(texts: Sequence[TextToRead]) -> tuple[list[TextToRead], Int[np.ndarray, " text"]]:
    """Find the fewest texts off which all can be read, and each one's number among them.

    In lexicographic order a text that begins another stands before it, with nothing in between that
    it does not begin as well: one look at the next tells.
    """
    numbers: dict[tuple[Tokens, int, Tokens], int] = {}
    distinct = np.empty(len(texts), dtype=np.int64)
    for at, text in enumerate(texts):
        distinct[at] = numbers.setdefault((text.marked, text.seed, text.tokens), len(numbers))
    first = np.full(len(numbers), np.iinfo(np.int64).max)
    np.minimum.at(first, distinct, [text.start for text in texts])
    rows: list[TextToRead] = []
    row_of = np.empty(len(numbers), dtype=np.int64)
    for marked, seed, tokens in sorted(numbers, reverse=True):
        number = numbers[marked, seed, tokens]
        start = int(first[number])
        last = rows[-1] if rows and rows[-1][2:] == (marked, seed) else None
        if last and last.tokens[: len(tokens)] == tokens:
            rows[-1] = last._replace(start=min(start, last.start))
        else:
            rows.append(TextToRead(tokens, start, marked, seed))
        row_of[number] = len(rows) - 1
    return rows, row_of[distinct]


def _batches(
    lm: LM, rows: Sequence[TextToRead], change: Change | None, batch_tokens: int
) -> Iterator[tuple[list[int], DynamicCache | None]]:
    """Part texts into batches, with what is read already.

    Padding follows a text, which looks back only.
    """
    limits = [_untouched(text, change) for text in rows]
    for members, shared in read_together(
        [text.tokens for text in rows], limits, lambda: lm.can_share
    ):
        past = lm.remember(shared) if shared else None
        known = len(shared) - len(shared) // SHARED_COST
        lengths = {row: len(rows[row].tokens) - known for row in members}
        for batch in in_any_order(cut(lengths, batch_tokens, MOST_PADDING)):
            yield batch, past


def _untouched(text: TextToRead, change: Change | None) -> int:
    """Count the tokens before all that are looked at and all that a change is about."""
    if change is not None and change.kind is ChangeKind.dropout:
        return 0
    return min(text.start, *text.marked) if text.marked and change else text.start


def read_together(
    texts: Sequence[Sequence[int]], limits: Sequence[int], can_share: Callable[[], bool]
) -> list[Together]:
    """Part texts by long common beginnings, where knowing one saves work.

    Parts nest: of questions behind the same examples, those go on together that ask in the same
    words, and stop where a name differs.

    Args:
        texts: Token ids.
        limits: Tokens of each text that may be read once for all, at most.
        can_share: Asked where it would pay; nothing is shared if not.
    """
    begins = [tuple(text[:limit]) for text, limit in zip(texts, limits, strict=True)]
    parts = [Together([], ())]
    todo = [(list(range(len(texts))), 0)]
    while todo:
        rows, part = todo.pop()
        known = len(parts[part].shared)
        shared = _common([begins[row] for row in rows]) if len(rows) > 1 else ()
        saves = (len(shared) - known) * (len(rows) - 1) - known
        if len(shared) >= LEAST_SHARED and saves >= LEAST_SAVED and can_share():
            part = len(parts)
            parts.append(Together([], shared))
        longest = max((len(begins[row]) for row in rows), default=0)
        if (longest - len(shared)) * (len(rows) - 1) < LEAST_SAVED:
            parts[part].rows.extend(rows)
            continue
        by_next: dict[Tokens, list[int]] = defaultdict(list)
        for row in rows:
            by_next[begins[row][len(shared) : len(shared) + 1]].append(row)
        parts[part].rows.extend(by_next.pop((), []))
        todo += [(alike, part) for alike in by_next.values()]
    found = (Together(sorted(part.rows), part.shared) for part in parts if part.rows)
    return in_any_order(found)


def in_any_order(parts: Iterable[T]) -> list[T]:
    """Shuffle parts of some work, the same way each time: some tell how long others will take."""
    found = list(parts)
    random.Random(0).shuffle(found)
    return found


def cut(
    lengths: Mapping[int, int], batch_tokens: int, most_padding: float, most_rows: int | None = None
) -> Iterator[list[int]]:
    """Cut rows, the shortest first, where a batch is full or its padding would cost much.

    Args:
        lengths: By row, what it takes of `batch_tokens`.
        batch_tokens: Of a batch with its padding; a row alone may be longer.
        most_padding: Share of what a batch takes.
        most_rows: In a batch; None: as many as there are.
    """
    batch: list[int] = []
    taken = 0
    for row, length in sorted(lengths.items(), key=lambda item: item[1]):
        size = (len(batch) + 1) * length
        full = size > batch_tokens or len(batch) == most_rows
        if batch and (full or len(batch) * length - taken > most_padding * size):
            yield batch
            batch, taken = [], 0
        batch.append(row)
        taken += length
    if batch:
        yield batch


def _common(texts: Sequence[Tokens]) -> Tokens:
    """Take the beginning of all texts: the first and the last in order differ the earliest."""
    low, high = min(texts), max(texts)
    n = sum(takewhile(bool, map(eq, low, high)))
    return low[:n]
