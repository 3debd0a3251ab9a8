"""Activations that the language model makes beside training: no disk."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ghosttrack.data.config import ExtractConfig, StoreConfig
from ghosttrack.data.corpora import CorpusWindows
from ghosttrack.data.forward import Extractor
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

    def load(self, units: Int64[np.ndarray, " unit"]) -> Tokens:
        """Run the model over some windows; the buffer lies on its device, in the store's dtype."""
        units = units[np.argsort(self.windows.lengths[units], kind="stable")]
        buffer = torch.empty(
            (len(self.hooks), int(self.unit_tokens[units].sum()), self.d_model),
            dtype=self.extractor.dtype,
            device=self.extractor.lm.device,
        )
        row = 0
        for acts in self.extractor.run(self.windows, units):
            buffer[:, row : row + acts.shape[1]] = acts
            row += acts.shape[1]

        def tokens(rows: Int64[np.ndarray, " row"]) -> Float[Tensor, "hook row d_model"]:
            index = torch.from_numpy(rows).to(buffer.device)
            return buffer.index_select(1, index).float()

        return tokens


class StreamSource(PartSource):
    """Shuffled batches from a running model.

    `buffer_tokens` tokens per hook point are at hand at a time, in `store.dtype`: the same numbers
    that a store would give, but for the order. Every rank runs the model over every window.

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
        super().__init__(train, heldout, buffer_tokens)
