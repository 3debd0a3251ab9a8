"""Activations that the language model makes beside training: no disk."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ghosttrack.data.corpora import CorpusWindows
from ghosttrack.data.forward import Extractor
from ghosttrack.data.source import ActivationSource, Deal, Tokens, exchange, least
from ghosttrack.data.store import hook_names
from ghosttrack.data.windows import StoredWindows, Windows


class StreamPart:
    """The windows of a part; to load some is to run the model over them."""

    def __init__(self, extractor: Extractor, windows: StoredWindows) -> None:
        self.extractor = extractor
        self.windows = windows
        self.hooks = hook_names(extractor.layers)
        self.d_model = extractor.lm.d_model
        self.unit_tokens = windows.kept

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
        if dealt.world_size > 1:
            self.extractor.batch_size = least(self.extractor.batch_size)
        windows = self.windows.read(units)
        batches = self.extractor.batches(windows.lengths)
        ends = np.concatenate([[0], self.unit_tokens[units].cumsum()])
        spans = [np.arange(ends[first], ends[last]) for first, last in batches]
        for turn in range(0, len(batches), dealt.world_size):
            here = slice(turn, turn + dealt.world_size)
            rows, acts = self._take_turns(windows, batches[here], spans[here], dealt)
            buffer[:, torch.from_numpy(rows).to(buffer.device)] = acts
        return lambda first, last: buffer[:, first:last].clone()

    def _take_turns(
        self,
        windows: Windows,
        batches: list[tuple[int, int]],
        spans: list[Int64[np.ndarray, " _"]],
        dealt: Deal,
    ) -> tuple[Int64[np.ndarray, " row"], Float[Tensor, "hook row d_model"]]:
        """Run one batch on each rank; return what this rank gets of them all, and its rows."""
        shape, device = (len(self.hooks), 0, self.d_model), self.extractor.lm.device
        acts = torch.empty(shape, dtype=self.extractor.dtype, device=device)
        if dealt.rank < len(batches):
            run = self.extractor.run_batch(windows, *batches[dealt.rank])
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
        corpus: Its windows.
        buffer_tokens: Tokens to shuffle among.
    """

    def __init__(self, extractor: Extractor, corpus: CorpusWindows, buffer_tokens: int) -> None:
        train, heldout = (StreamPart(extractor, windows) for windows in corpus)
        super().__init__(train, heldout, buffer_tokens, ahead=False)
