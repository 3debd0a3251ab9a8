"""The language model over context windows: the residual streams that are kept."""

import logging
from collections.abc import Generator
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ghosttrack.data.windows import Windows
from ghosttrack.errors import ConfigError, DataError
from ghosttrack.memory import free_bytes, peak_bytes, reset_peak
from ghosttrack.models.config import Products
from ghosttrack.models.gpu import multiplying
from ghosttrack.models.lm import LM

PADDING_FRAC = 0.125
"""Largest share of padding in a row; windows that differ more do not share a batch."""

log = logging.getLogger(__name__)


class Extractor:
    """Run a model over windows and keep some layers' residual streams.

    Args:
        skip_first: Leading positions of every window that are not kept.
        batch_size: Windows per forward pass; those for which the device has no memory are halved.
        products: Number format in which a GPU multiplies.

    Attributes:
        waits: False where inf and NaN are looked for in `check` alone, so that no pass waits for
            the one before it.
    """

    def __init__(
        self,
        lm: LM,
        layers: list[int],
        skip_first: int,
        dtype: torch.dtype,
        batch_size: int,
        products: Products = Products.fp32,
    ) -> None:
        self.lm = lm
        self.layers = layers
        self.skip_first = skip_first
        self.dtype = dtype
        self.batch_size = batch_size
        self.products = products
        self.waits = True
        self.unchecked: list[Tensor] = []
        self.fitting = batch_size
        self.refused: int | None = None

    def of(self, layers: list[int]) -> "Extractor":
        """Keep other layers."""
        same = self.skip_first, self.dtype, self.batch_size, self.products
        return Extractor(self.lm, layers, *same)

    def sized(self, batch_size: int) -> "Extractor":
        """Take another number of windows at a time."""
        same = self.lm, self.layers, self.skip_first, self.dtype
        return Extractor(*same, batch_size, self.products)

    def batches(self, lengths: Int64[np.ndarray, " window"]) -> list[tuple[int, int]]:
        """Cut windows, by length in ascending order, into batches that hold little padding.

        Ranks that share them out agree on them, whatever the memory of each.
        """
        edges = [0]
        while (start := edges[-1]) < len(lengths):
            longest = lengths[start] / (1 - PADDING_FRAC)
            within = int(np.searchsorted(lengths, longest, side="right"))
            edges.append(min(start + self.batch_size, within))
        return list(pairwise(edges))

    def run(self, windows: Windows) -> Generator[Float[Tensor, "layer row d_model"]]:
        """Yield the kept positions of windows, in their order, batch by batch.

        Args:
            windows: By length in ascending order.

        Raises:
            ConfigError: The device has no memory for a single window.
            DataError: An activation is not a finite number.
        """
        for first, last in self.batches(windows.lengths):
            yield from self.run_batch(windows, first, last)

    def run_batch(
        self, windows: Windows, first: int, last: int
    ) -> Generator[Float[Tensor, "layer row d_model"]]:
        """Yield the kept positions of windows `first` to `last`, in as many passes as it takes."""
        while first < last:
            end = min(first + self.fitting, last)
            try:
                acts = self.forward(windows, first, end)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(end - first)
                continue
            self._say_halved()
            yield acts
            first = end

    def forward(
        self, windows: Windows, first: int, last: int
    ) -> Float[Tensor, "layer row d_model"]:
        """Return the kept positions of windows `first` to `last`, from one pass."""
        ids, mask = windows.padded(first, last)
        with multiplying(self.products, self.lm.device, self.lm.model.dtype):
            resid = self.lm.residuals(ids, mask, self.layers)[:, :, self.skip_first :]
        kept = mask[:, self.skip_first :]
        acts = resid.flatten(1, 2) if bool(kept.all()) else resid[:, kept.to(resid.device)]
        acts = acts.to(self.dtype)
        # inf and NaN make their layer's sum not finite
        self.unchecked.append(acts.sum((1, 2), dtype=torch.float32).isfinite())
        if self.waits:
            self.check()
        return acts

    def check(self) -> None:
        """Refuse inf and NaN in what was read since the last look.

        Raises:
            DataError: Names a layer.
        """
        seen, self.unchecked = self.unchecked, []
        finite = torch.stack(seen).all(0) if seen else torch.ones(1, dtype=torch.bool)
        if not bool(finite.all()):
            layer = self.layers[int((~finite).nonzero()[0])]
            raise DataError(
                f"layer {layer}: an activation is not a finite {self.dtype};"
                " set store.dtype=bf16, or model.dtype=fp32 if it is that already"
            )

    def _halve(self, n_windows: int) -> None:
        if n_windows == 1:
            raise ConfigError(
                f"corpus.context: {self.lm.device} has no memory for a single window;"
                " set a shorter corpus.context, model.dtype=bf16, or device=cpu"
            )
        self.refused = self.refused or n_windows
        self.fitting = n_windows // 2
        torch.cuda.empty_cache()

    def _say_halved(self) -> None:
        """Warn once of what fits, now that it is known."""
        if self.refused is not None:
            log.warning(
                "out of memory at %d windows: going on with extract.batch_size=%d",
                *(self.refused, self.fitting),
            )
            self.refused = None


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether a device, or the host, had no room for a tensor."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


MOST_TOKENS = {"cuda": 2**17, "cpu": 2**12}
"""Tokens per pass beyond which a device gains nothing, while the host must hold what is kept."""
SHARE = 0.8
"""Of a host's free memory: it refuses nothing, but swaps or kills."""
EXACTNESS = 8
"""The largest batch is found to this part of itself."""


def largest_batch(extractor: Extractor, context: int) -> int:
    """Find the most windows of `context` tokens that one pass has memory for.

    Runs the model over more and more of them: doubles until the device refuses, then halves the
    difference; up to `MOST_TOKENS`.

    Args:
        extractor: Its batch size is not used.
        context: Tokens of a window.
    """
    most = max(MOST_TOKENS[extractor.lm.device.type] // context, 1)
    fits, refused = 0, most + 1
    while refused - fits > max(fits // EXACTNESS, 1):
        size = min(2 * fits or 1, most) if refused > most else (fits + refused) // 2
        if _fits(extractor, context, size):
            fits = size
        else:
            refused = size
        if fits == most:
            break
    return max(fits, 1)


def _fits(extractor: Extractor, context: int, n_windows: int) -> bool:
    """Try; on a host, tell from the memory that it took whether there is room for it again."""
    ids = np.zeros(n_windows * context, dtype=np.int32)
    windows = Windows(ids, ids, np.arange(0, len(ids) + 1, context))
    free = free_bytes()
    before = reset_peak()
    try:
        extractor.forward(windows, 0, n_windows)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        torch.cuda.empty_cache()
        return False
    grown = peak_bytes() - before
    return extractor.lm.device.type != "cpu" or not free or grown < SHARE * free
