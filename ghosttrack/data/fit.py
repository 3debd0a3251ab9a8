"""How many windows a forward pass can take."""

import numpy as np
import torch

from ghosttrack.data.forward import Extractor, is_out_of_memory
from ghosttrack.data.windows import Windows
from ghosttrack.memory import free_bytes, peak_bytes, reset_peak

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
