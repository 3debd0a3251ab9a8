"""Batches of activations, in an order that depends on the seed alone."""

import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch import distributed as dist

AHEAD_BATCHES = 2
"""Batches that are gathered in the background while the trainer has one."""

Item = TypeVar("Item")
_END = object()


class Deal(NamedTuple):
    """Which rank gets which tokens of a chunk, and in what order."""

    rank: int
    """This process's."""
    world_size: int
    mine: Int64[np.ndarray, " row"]
    """This rank's tokens, in the order in which they are handed out."""
    ranks: Int64[np.ndarray, " token"]
    """The rank of each token."""
    rows: Int64[np.ndarray, " token"]
    """The place of each token among those of its rank."""


def deal(order: Int64[np.ndarray, " token"], start: int, rank: int, world_size: int) -> Deal:
    """Deal tokens in turn: the i-th of `order` goes to rank `(start + i) % world_size`.

    >>> deal(np.array([2, 0, 1]), start=4, rank=1, world_size=2).mine.tolist()
    [0]
    """
    seats = np.empty_like(order)
    seats[order] = np.arange(len(order))
    mine = order[(rank - start) % world_size :: world_size]
    return Deal(rank, world_size, mine, (start + seats) % world_size, seats // world_size)


def exchange(
    acts: Float[Tensor, "row hook d_model"],
    send: Int64[np.ndarray, " rank"],
    receive: Int64[np.ndarray, " rank"],
) -> Float[Tensor, "received hook d_model"]:
    """Give every rank its rows and get this rank's; every rank calls it at the same point.

    Rows travel as bytes, for gloo has no bf16, and over the memory that the process group uses.

    Args:
        acts: Rows by destination in ascending order.
        send: How many go to each rank.
        receive: How many come from each rank; they arrive in that order.
    """
    device = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
    outgoing = acts.to(device).contiguous().view(torch.uint8)
    incoming = outgoing.new_empty(int(receive.sum()), *outgoing.shape[1:])
    dist.all_to_all_single(incoming, outgoing, receive.tolist(), send.tolist())
    return incoming.view(acts.dtype).to(acts.device)


def least(number: int) -> int:
    """Return the least of the ranks' numbers; every rank calls it at the same point."""
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    held = torch.tensor(number, device=device)
    dist.all_reduce(held, dist.ReduceOp.MIN)
    return int(held)


def prefetch(items: Generator[Item], depth: int) -> Generator[Item]:
    """Yield the same items in the same order, up to `depth` of them made ahead by a thread.

    With depth 1 the next item is made while the consumer has the present one: two at a time. What
    the thread raises is raised at the item where it happened. Closing ends the thread and closes
    `items`, after the item that is being made; so does the interpreter's exit.

    >>> list(prefetch((letter for letter in "abc"), depth=2))
    ['a', 'b', 'c']
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        ahead = deque(pool.submit(next, items, _END) for _ in range(depth))
        while (item := ahead.popleft().result()) is not _END:
            ahead.append(pool.submit(next, items, _END))
            yield item  # pyright: ignore[reportReturnType] - all but the end are items
    finally:
        pool.shutdown(cancel_futures=True)
        items.close()


Tokens = Callable[[int, int], Float[Tensor, "hook row d_model"]]
"""This rank's tokens of a chunk at hand: give the rows from one up to another, as handed out."""


@runtime_checkable
class Part(Protocol):
    """Tokens of training or held-out text, in units that are cheap to get whole.

    A unit is a block of a store's rows, or a window that the model is yet to read.
    """

    hooks: list[str]
    d_model: int
    unit_tokens: Int64[np.ndarray, " unit"]

    def load(self, units: Int64[np.ndarray, " unit"], dealt: Deal) -> Tokens:
        """Get this rank's tokens of some units.

        `dealt` counts the tokens of those units from 0, in a fixed order of the part's own. Every
        rank loads the same units at the same point of its work.
        """
        ...


class _Epoch(NamedTuple):
    """One pass over a part: units in order, in chunks that are shuffled inside."""

    number: int
    units: Int64[np.ndarray, " unit"]
    starts: Int64[np.ndarray, " unit"]
    """Tokens of the epoch before each unit."""
    chunks: Int64[np.ndarray, " unit"]
    """Which chunk each unit is in; ascending."""


class _Chunk(NamedTuple):
    """This rank's tokens at hand, and the places of the sequence that all ranks' take."""

    start: int
    end: int
    rank: int
    world_size: int
    tokens: Tokens

    def between(self, start: int, end: int) -> Float[Tensor, "hook row d_model"]:
        """Give this rank's tokens at places `start` to `end`."""
        return self.tokens(self._row(start), self._row(end))

    def _row(self, place: int) -> int:
        """Count this rank's tokens before a place."""
        first = self.start + (self.rank - self.start) % self.world_size
        return -((first - place) // self.world_size)


class TokenSequence:
    """A part's tokens as one endless sequence, of which a rank reads every `world_size`-th.

    An epoch is a permutation of the part's units, cut into chunks of about `chunk_tokens`; within a
    chunk tokens are permuted. Reading may start at any place, as permutations are drawn from
    (seed, epoch, chunk).

    Args:
        chunk_tokens: Tokens to shuffle among.
        seed: None keeps the part's own order.
        rank: Gets the places p with `p % world_size == rank`.
    """

    def __init__(
        self, part: Part, chunk_tokens: int, seed: int | None, rank: int = 0, world_size: int = 1
    ) -> None:
        self.part = part
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.n_tokens = int(part.unit_tokens.sum())
        n_chunks = -(-self.n_tokens // chunk_tokens)
        self.chunk_tokens = -(-self.n_tokens // n_chunks)
        self._epoch = self._draw_epoch(0)

    def batches(
        self, size: int, start: int = 0, end: int = sys.maxsize, *, ahead: bool = False
    ) -> Generator[Float[Tensor, "hook row d_model"]]:
        """Yield this rank's share of each `size` places from `start` on; the last may be smaller.

        One chunk is at hand at a time. With `ahead` a thread loads the next one meanwhile.
        """
        if start >= end:
            return
        chunks = self._chunks(start, end)
        with closing(prefetch(chunks, 1) if ahead else chunks) as chunks:
            chunk = next(chunks)
            while start < end:
                pieces, stop = [], min(start + size, end)
                while start < stop:
                    if start == chunk.end:
                        del chunk  # before the next one, which may take its memory over
                        chunk = next(chunks)
                    here = min(stop, chunk.end)
                    pieces.append(chunk.between(start, here))
                    start = here
                yield pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)

    def _chunks(self, start: int, end: int) -> Generator[_Chunk]:
        while start < end:
            chunk = self._load(start)
            start = chunk.end
            yield chunk
            del chunk

    def _load(self, place: int) -> _Chunk:
        number, within = divmod(place, self.n_tokens)
        if number != self._epoch.number:
            self._epoch = self._draw_epoch(number)
        epoch = self._epoch
        chunk = epoch.chunks[np.searchsorted(epoch.starts, within, side="right") - 1]
        first, last = np.searchsorted(epoch.chunks, [chunk, chunk + 1])
        units = epoch.units[first:last]
        n_tokens = int(self.part.unit_tokens[units].sum())
        order = np.arange(n_tokens)
        if self.seed is not None:
            order = np.random.default_rng([self.seed, number, int(chunk)]).permutation(order)
        start = number * self.n_tokens + int(epoch.starts[first])
        dealt = deal(order, start, self.rank, self.world_size)
        tokens = self.part.load(units, dealt)
        return _Chunk(start, start + n_tokens, self.rank, self.world_size, tokens)

    def _draw_epoch(self, number: int) -> _Epoch:
        units = np.arange(len(self.part.unit_tokens))
        if self.seed is not None:
            units = np.random.default_rng([self.seed, number]).permutation(units)
        tokens = self.part.unit_tokens[units]
        starts = tokens.cumsum() - tokens
        return _Epoch(number, units, starts, starts // self.chunk_tokens)


class ActivationSource:
    """What training asks for activations: shuffled batches from two parts.

    Batches come as the parts hold them, in their number format and on their device.

    Args:
        chunk_tokens: Training tokens to shuffle among; bounds what is at hand.
        ahead: Load chunks and gather batches in the background, before they are asked for.
    """

    def __init__(self, train: Part, heldout: Part, chunk_tokens: int, *, ahead: bool) -> None:
        self.train = train
        self.heldout = heldout
        self.chunk_tokens = chunk_tokens
        self.ahead = ahead
        self.hooks = train.hooks
        self.d_model = train.d_model

    def sample(self, n_tokens: int) -> Float[Tensor, "hook token d_model"]:
        """Return training tokens, at most `n_tokens`: always the same, on every rank.

        In fp32, whatever the source: statistics are taken of them.
        """
        sequence = TokenSequence(self.train, n_tokens, seed=0)
        return next(sequence.batches(min(n_tokens, sequence.n_tokens))).float()

    def batches(
        self, batch_size: int, seed: int, rank: int = 0, world_size: int = 1, start_step: int = 0
    ) -> Generator[Float[Tensor, "hook row d_model"]]:
        """Yield training batches without end, from step `start_step` on.

        The batch of a step, over all ranks, depends on the step and the seed alone; a rank gets
        rows `rank::world_size` of it. Every token comes once per epoch. Close what is given when no
        more batches are wanted: one may be in the making.
        """
        assert batch_size % world_size == 0, f"{batch_size} rows for {world_size} ranks"
        sequence = TokenSequence(self.train, self.chunk_tokens, seed, rank, world_size)
        return self._served(sequence, batch_size, start_step * batch_size, sys.maxsize)

    def heldout_batches(
        self, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[Float[Tensor, "hook row d_model"]]:
        """Yield every held-out token once over all ranks, as many to each.

        The remainder of the last batch by `world_size` is left out.
        """
        assert batch_size % world_size == 0, f"{batch_size} rows for {world_size} ranks"
        chunk_tokens = max(batch_size, self.chunk_tokens)
        sequence = TokenSequence(self.heldout, chunk_tokens, None, rank, world_size)
        end = sequence.n_tokens - sequence.n_tokens % world_size
        return self._served(sequence, batch_size, 0, end)

    def _served(
        self, sequence: TokenSequence, size: int, start: int, end: int
    ) -> Generator[Float[Tensor, "hook row d_model"]]:
        batches = sequence.batches(size, start, end, ahead=self.ahead)
        return prefetch(batches, AHEAD_BATCHES) if self.ahead else batches
