"""Activations that the language model makes beside training: no disk."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch import distributed as dist

from ghosttrack.data.corpora import CorpusWindows
from ghosttrack.data.forward import Extractor
from ghosttrack.data.progress import Meter
from ghosttrack.data.source import ActivationSource, Deal, Tokens, exchange, least
from ghosttrack.data.store import hook_names
from ghosttrack.data.windows import StoredWindows, Windows
from ghosttrack.models.gpu import sent


class Split(NamedTuple):
    """Ranks that each want some hook points of all tokens."""

    layers: list[list[int]]
    """Of each rank; together they are the extractor's, in its order."""
    rank: int
    """This process's."""

    @property
    def mine(self) -> slice:
        """This rank's among the extractor's layers."""
        start = sum(map(len, self.layers[: self.rank]))
        return slice(start, start + len(self.layers[self.rank]))


class StreamPart:
    """The windows of a part; to load some is to run the model over them."""

    def __init__(
        self, extractor: Extractor, windows: StoredWindows, split: Split | None = None
    ) -> None:
        extractor.waits = False
        self.extractor = extractor
        self.windows = windows
        self.split = split
        layers = extractor.layers
        self.hooks = hook_names(layers if split is None else layers[split.mine])
        self.d_model = extractor.lm.d_model
        self.unit_tokens = windows.kept
        self.meter: Meter | None = None

    def load(self, units: Int64[np.ndarray, " unit"], dealt: Deal) -> Tokens:
        """Run the model over this rank's share of some windows and exchange with the others.

        The buffer lies on the model's device, in the store's number format.
        """
        units = units[np.argsort(self.windows.lengths[units], kind="stable")]
        buffer = torch.empty(
            (len(self.hooks), len(dealt.mine), self.d_model),
            dtype=self.extractor.dtype,
            device=self.extractor.lm.device,
        )
        n_ranks = self._n_ranks(dealt)
        if n_ranks > 1:
            self.extractor.batch_size = least(self.extractor.batch_size)
        windows = self.windows.read(units)
        batches = self.extractor.batches(windows.lengths)
        ends = np.concatenate([[0], self.unit_tokens[units].cumsum()])
        spans = [np.arange(ends[first], ends[last]) for first, last in batches]
        if self.meter is not None:
            self.meter.total = int(self.unit_tokens[units].sum())
        take_turns = self._take_turns if self.split is None else self._swap_layers
        for turn in range(0, len(batches), n_ranks):
            here = slice(turn, turn + n_ranks)
            rows, acts = take_turns(windows, batches[here], spans[here], dealt)
            buffer[:, sent(torch.from_numpy(rows), buffer.device)] = acts
            if self.meter is not None:
                self.meter.advance(len(rows))
        self.extractor.check()
        return lambda first, last: buffer[:, first:last].clone()

    def _n_ranks(self, dealt: Deal) -> int:
        """Count those that share the windows; alone where no process group is up yet."""
        if self.split is None:
            return dealt.world_size
        return len(self.split.layers) if dist.is_initialized() else 1

    def _run(
        self, windows: Windows, batches: list[tuple[int, int]], rank: int
    ) -> Float[Tensor, "layer row d_model"]:
        """Run this rank's batch of some; the last turn may have none for it."""
        if rank < len(batches):
            return torch.cat(list(self.extractor.run_batch(windows, *batches[rank])), dim=1)
        shape, device = (len(self.extractor.layers), 0, self.d_model), self.extractor.lm.device
        return torch.empty(shape, dtype=self.extractor.dtype, device=device)

    def _swap_layers(
        self,
        windows: Windows,
        batches: list[tuple[int, int]],
        spans: list[Int64[np.ndarray, " _"]],
        dealt: Deal,
    ) -> tuple[Int64[np.ndarray, " row"], Float[Tensor, "hook row d_model"]]:
        """Run one batch on each rank; give each rank its layers of them all, and this one's rows.

        Without the other ranks this one runs the batch and drops their layers.
        """
        assert self.split is not None
        split, rows = self.split, dealt.rows[np.concatenate(spans)]
        if self._n_ranks(dealt) == 1:
            return rows, self._run(windows, batches, 0)[split.mine]
        acts = self._run(windows, batches, split.rank)
        each = np.array([len(layers) for layers in split.layers])
        lengths = np.zeros(len(each), dtype=np.int64)
        lengths[: len(spans)] = [len(span) for span in spans]
        n_mine = each[split.rank]
        sent, received = each * acts.shape[1], n_mine * lengths
        arrived = exchange(acts.flatten(0, 1)[:, None], sent, received)
        parts = arrived[:, 0].split(received.tolist())
        blocks = [part.view(n_mine, -1, self.d_model) for part in parts if len(part)]
        return rows, torch.cat(blocks, dim=1)

    def _take_turns(
        self,
        windows: Windows,
        batches: list[tuple[int, int]],
        spans: list[Int64[np.ndarray, " _"]],
        dealt: Deal,
    ) -> tuple[Int64[np.ndarray, " row"], Float[Tensor, "hook row d_model"]]:
        """Run one batch on each rank; return what this rank gets of them all, and its rows."""
        acts = self._run(windows, batches, dealt.rank)
        if dealt.world_size == 1:
            return dealt.rows[spans[0]], acts
        got = [span[dealt.ranks[span] == dealt.rank] for span in spans]
        received = np.zeros(dealt.world_size, dtype=np.int64)
        received[: len(got)] = [len(tokens) for tokens in got]
        given = dealt.ranks[spans[dealt.rank]] if dealt.rank < len(spans) else received[:0]
        by_rank = torch.from_numpy(np.argsort(given, kind="stable")).to(acts.device)
        sent = np.bincount(given, minlength=dealt.world_size)
        arrived = exchange(acts[:, by_rank].transpose(0, 1), sent, received)
        return dealt.rows[np.concatenate(got)], arrived.transpose(0, 1)


class StreamSource(ActivationSource):
    """Shuffled batches from a running model.

    `buffer_tokens` tokens per hook point are at hand at a time over all ranks, in `store.dtype`:
    the same numbers that a store would give, but for the order, and but for int8, which spares a
    disk alone: fp32 is at hand instead. Of several ranks each runs the
    model over its share of the windows and keeps the rows that it hands out; the process group must
    be up.

    Nothing is made ahead: the model would run on the cores or the GPU that training uses, so that
    both took as long as one after the other, with a second buffer in memory.

    Args:
        extractor: Runs the model; of several ranks the least batch size counts.
        buffer_tokens: Tokens to shuffle among.
        split: Where each rank wants some layers of all tokens: the model's work is shared as well.
    """

    def __init__(
        self,
        extractor: Extractor,
        corpus: CorpusWindows,
        buffer_tokens: int,
        split: Split | None = None,
    ) -> None:
        self.read, heldout = (StreamPart(extractor, windows, split) for windows in corpus)
        super().__init__(self.read, heldout, buffer_tokens, ahead=False)

    def sample(self, n_tokens: int) -> Float[Tensor, "hook token d_model"]:
        """Let the model read training tokens, and tell how long that takes."""
        with Meter("reading text", n_tokens) as meter:
            self.read.meter = meter
            found = super().sample(n_tokens)
        self.read.meter = None  # batches are read beside a trainer's own bar
        return found
