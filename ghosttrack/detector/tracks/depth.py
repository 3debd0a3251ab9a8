"""Where in the depth of the model: windows that mean the same for 6 blocks and for 32."""

import numpy as np
from jaxtyping import Float, Int


def layers_within(
    depths: Float[np.ndarray, " layer"], low: float, high: float
) -> Int[np.ndarray, " chosen"]:
    """Pick the layers with `low < depth <= high`; the one nearest to the middle if there is none.

    >>> layers_within(np.arange(1, 7) / 6, 0.75, 1.0)
    array([4, 5])
    >>> layers_within(np.array([0.5, 1.0]), 0.5, 0.75)
    array([0])
    """
    inside = np.flatnonzero((depths > low) & (depths <= high))
    if len(inside):
        return inside
    return np.array([np.abs(depths - (low + high) / 2).argmin()])
