"""Batches of activations, in an order that depends on the seed alone."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor


@runtime_checkable
class ActivationSource(Protocol):
    """What training asks for activations."""

    hooks: list[str]
    d_model: int

    def sample(self, n_tokens: int) -> Float[Tensor, "hook token d_model"]:
        """Return training tokens, at most `n_tokens`: always the same, on every rank."""
        ...

    def batches(
        self, batch_size: int, seed: int, rank: int = 0, world_size: int = 1, start_step: int = 0
    ) -> Iterator[Float[Tensor, "hook row d_model"]]:
        """Yield training batches without end, from step `start_step` on.

        The batch of a step, over all ranks, depends on the step and the seed alone; a rank gets
        rows `rank::world_size` of it. Every token comes once per epoch.
        """
        ...

    def heldout_batches(
        self, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[Float[Tensor, "hook row d_model"]]:
        """Yield every held-out token once over all ranks, as many to each.

        The remainder of the last batch by `world_size` is left out.
        """
        ...


Tokens = Callable[[Int64[np.ndarray, " row"]], Float[Tensor, "hook row d_model"]]
"""Tokens that are at hand: give some rows, in fp32."""


@runtime_checkable
class Part(Protocol):
    """Tokens of training or held-out text, in units that are cheap to get whole.

    A unit is a block of a store's rows, or a window that the model is yet to read.
    """

    hooks: list[str]
    d_model: int
    unit_tokens: Int64[np.ndarray, " unit"]

    def load(self, units: Int64[np.ndarray, " unit"]) -> Tokens:
        """Get the tokens of some units; their rows are numbered from 0 in a fixed order."""
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
    """Tokens at hand, and the places of the sequence that they take."""

    start: int
    end: int
    order: Int64[np.ndarray, " token"]
    tokens: Tokens


class TokenSequence:
    """A part's tokens as one endless sequence, read at ascending places.

    An epoch is a permutation of the part's units, cut into chunks of about `chunk_tokens`; within a
    chunk tokens are permuted. One chunk is at hand at a time. Any place can be read without
    what comes before it, as permutations are drawn from (seed, epoch, chunk).

    Args:
        part: The tokens.
        chunk_tokens: Tokens to shuffle among.
        seed: None keeps the part's own order.
    """

    def __init__(self, part: Part, chunk_tokens: int, seed: int | None) -> None:
        self.part = part
        self.seed = seed
        self.n_tokens = int(part.unit_tokens.sum())
        n_chunks = -(-self.n_tokens // chunk_tokens)
        self.chunk_tokens = -(-self.n_tokens // n_chunks)
        self._epoch = self._draw_epoch(0)
        self._chunk: _Chunk | None = None

    def take(self, places: Int64[np.ndarray, " token"]) -> Float[Tensor, "hook token d_model"]:
        """Return the tokens at ascending places; tokens of epoch e begin at e * n_tokens."""
        pieces = []
        while len(places):
            chunk = self._chunk_at(int(places[0]))
            n_here = int(np.searchsorted(places, chunk.end))
            pieces.append(chunk.tokens(chunk.order[places[:n_here] - chunk.start]))
            places = places[n_here:]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)

    def _chunk_at(self, place: int) -> _Chunk:
        if self._chunk is None or not self._chunk.start <= place < self._chunk.end:
            self._chunk = None  # frees the memory before the next chunk needs as much
            self._chunk = self._load(place)
        return self._chunk

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
        return _Chunk(start, start + n_tokens, order, self.part.load(units))

    def _draw_epoch(self, number: int) -> _Epoch:
        units = np.arange(len(self.part.unit_tokens))
        if self.seed is not None:
            units = np.random.default_rng([self.seed, number]).permutation(units)
        tokens = self.part.unit_tokens[units]
        starts = tokens.cumsum() - tokens
        return _Epoch(number, units, starts, starts // self.chunk_tokens)


class PartSource:
    """Serves batches from two parts: the common half of the store's and the stream's source.

    Args:
        train: Tokens to learn from.
        heldout: Tokens for metrics.
        chunk_tokens: Training tokens to shuffle among; bounds what is at hand.
    """

    def __init__(self, train: Part, heldout: Part, chunk_tokens: int) -> None:
        self.train = train
        self.heldout = heldout
        self.chunk_tokens = chunk_tokens
        self.hooks = train.hooks
        self.d_model = train.d_model

    def sample(self, n_tokens: int) -> Float[Tensor, "hook token d_model"]:
        """Return training tokens, at most `n_tokens`: always the same, on every rank."""
        sequence = TokenSequence(self.train, n_tokens, seed=0)
        return sequence.take(np.arange(min(n_tokens, sequence.n_tokens)))

    def batches(
        self, batch_size: int, seed: int, rank: int = 0, world_size: int = 1, start_step: int = 0
    ) -> Iterator[Float[Tensor, "hook row d_model"]]:
        """Yield training batches without end; see `ActivationSource`."""
        assert batch_size % world_size == 0, f"{batch_size} rows for {world_size} ranks"
        sequence = TokenSequence(self.train, self.chunk_tokens, seed)
        start = start_step * batch_size
        while True:
            yield sequence.take(np.arange(start + rank, start + batch_size, world_size))
            start += batch_size

    def heldout_batches(
        self, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[Float[Tensor, "hook row d_model"]]:
        """Yield every held-out token once over all ranks; see `ActivationSource`."""
        assert batch_size % world_size == 0, f"{batch_size} rows for {world_size} ranks"
        sequence = TokenSequence(self.heldout, max(batch_size, self.chunk_tokens), seed=None)
        end = sequence.n_tokens - sequence.n_tokens % world_size
        for start in range(0, end, batch_size):
            yield sequence.take(np.arange(start + rank, min(start + batch_size, end), world_size))
