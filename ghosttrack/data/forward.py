"""The language model over context windows: the residual streams that are kept."""

import logging
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ghosttrack.data.windows import Windows
from ghosttrack.errors import ConfigError, DataError
from ghosttrack.models.lm import LM

PADDING_FRAC = 0.125
"""Largest share of padding in a row; windows that differ more do not share a batch."""

log = logging.getLogger(__name__)


class Extractor:
    """Run a model over windows and keep some layers' residual streams.

    Args:
        lm: The model.
        layers: Block indices.
        skip_first: Leading positions of every window that are not kept.
        dtype: Of what is kept.
        batch_size: Windows per forward pass; those for which the device has no memory are halved.
    """

    def __init__(
        self, lm: LM, layers: list[int], skip_first: int, dtype: torch.dtype, batch_size: int
    ) -> None:
        self.lm = lm
        self.layers = layers
        self.skip_first = skip_first
        self.dtype = dtype
        self.batch_size = batch_size
        self.fitting = batch_size

    def batches(
        self, windows: Windows, chosen: Int64[np.ndarray, " window"]
    ) -> list[Int64[np.ndarray, " _"]]:
        """Cut windows, by length in ascending order, into batches that hold little padding.

        Ranks that share them out agree on them, whatever the memory of each.
        """
        lengths = windows.lengths[chosen]
        batches, start = [], 0
        while start < len(chosen):
            longest = lengths[start] / (1 - PADDING_FRAC)
            end = min(start + self.batch_size, int(np.searchsorted(lengths, longest, side="right")))
            batches.append(chosen[start:end])
            start = end
        return batches

    def run(
        self, windows: Windows, chosen: Int64[np.ndarray, " window"]
    ) -> Iterator[Float[Tensor, "layer row d_model"]]:
        """Yield the kept positions of the chosen windows, in their order, batch by batch.

        Args:
            windows: The windows of a part.
            chosen: Which, by length in ascending order.

        Raises:
            ConfigError: The device has no memory for a single window.
            DataError: An activation is not a finite number.
        """
        for batch in self.batches(windows, chosen):
            start = 0
            while start < len(batch):
                end = start + self.fitting
                try:
                    acts = self._forward(windows, batch[start:end])
                except torch.OutOfMemoryError:
                    self._halve(len(batch[start:end]))
                    continue
                yield acts
                start = end

    def _forward(
        self, windows: Windows, chosen: Int64[np.ndarray, " window"]
    ) -> Float[Tensor, "layer row d_model"]:
        ids, mask = windows.padded(chosen)
        resid = self.lm.residuals(ids, mask, self.layers)[:, :, self.skip_first :]
        kept = mask[:, self.skip_first :]
        acts = resid.flatten(1, 2) if bool(kept.all()) else resid[:, kept.to(resid.device)]
        acts = acts.to(self.dtype)
        self._check(acts)
        return acts

    def _check(self, acts: Float[Tensor, "layer row d_model"]) -> None:
        """Refuse inf and NaN: either makes its layer's sum not finite."""
        finite = acts.sum((1, 2), dtype=torch.float32).isfinite()
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
        self.fitting = n_windows // 2
        torch.cuda.empty_cache()
        log.warning(
            "out of memory at %d windows: going on with extract.batch_size=%d",
            *(n_windows, self.fitting),
        )
