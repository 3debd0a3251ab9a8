"""Activations that the language model makes beside training: no disk."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ghosttrack.data.config import ExtractConfig, StoreConfig
from ghosttrack.data.corpora import CorpusWindows
from ghosttrack.data.forward import Extractor
from ghosttrack.data.ranks import Deal, exchange
from ghosttrack.data.source import PartSource, Tokens
from ghosttrack.data.store import hook_names, torch_dtype
from ghosttrack.data.windows import Windows
from ghosttrack.models.lm import LM


class StreamPart:
    """The windows of a part; to load some is to run the model over them."""

    def __init__(self, extractor: Extractor, windows: Windows) -> None:
        self.extractor = extractor
        self.windows = windows
        self.hooks = hook_names(extractor.layers)
        self.d_model = extractor.lm.d_model
        self.unit_tokens = windows.kept(extractor.skip_first)

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
        batches = self.extractor.batches(self.windows, units)
        ends = np.cumsum([self.unit_tokens[batch].sum() for batch in batches])
        spans = [np.arange(*span) for span in pairwise([0, *ends])]
        for turn in range(0, len(batches), dealt.world_size):
            here = slice(turn, turn + dealt.world_size)
            rows, acts = self._take_turns(batches[here], spans[here], dealt)
            buffer[:, torch.from_numpy(rows).to(buffer.device)] = acts
        return lambda first, last: buffer[:, first:last].clone()

    def _take_turns(
        self,
        batches: list[Int64[np.ndarray, " _"]],
        spans: list[Int64[np.ndarray, " _"]],
        dealt: Deal,
    ) -> tuple[Int64[np.ndarray, " row"], Float[Tensor, "hook row d_model"]]:
        """Run one batch on each rank; return what this rank gets of them all, and its rows."""
        shape, device = (len(self.hooks), 0, self.d_model), self.extractor.lm.device
        acts = torch.empty(shape, dtype=self.extractor.dtype, device=device)
        if dealt.rank < len(batches):
            run = self.extractor.run(self.windows, batches[dealt.rank])
            acts = torch.cat(list(run), dim=1)
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


class StreamSource(PartSource):
    """Shuffled batches from a running model.

    `buffer_tokens` tokens per hook point are at hand at a time over all ranks, in `store.dtype`:
    the same numbers that a store would give, but for the order. Of several ranks each runs the
    model over its share of the windows and keeps the rows that it hands out; the process group must
    be up.

    Nothing is made ahead: the model would run on the cores or the GPU that training uses, so that
    both took as long as one after the other, with a second buffer in memory.

    Args:
        lm: The model.
        corpus: Its windows.
        layers: Block indices.
        store: `dtype` and `skip_first`.
        extract: `batch_size`.
        buffer_tokens: Tokens to shuffle among.
    """

    def __init__(
        self,
        lm: LM,
        corpus: CorpusWindows,
        layers: Sequence[int],
        store: StoreConfig,
        extract: ExtractConfig,
        buffer_tokens: int,
    ) -> None:
        dtype = torch_dtype(store.dtype)
        extractor = Extractor(lm, list(layers), store.skip_first, dtype, extract.batch_size)
        train, heldout = (StreamPart(extractor, windows) for windows in corpus)
        super().__init__(train, heldout, buffer_tokens, ahead=False)
