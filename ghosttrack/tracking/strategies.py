"""Ways to decide which of the possible links into a layer are made."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool

from ghosttrack.tracking.assign import assign
from ghosttrack.tracking.hypotheses import best_hypothesis
from ghosttrack.tracking.trellis import Possible, Trellis

Choose = Callable[[int, Possible], Bool[np.ndarray, "link"]]
"""Marks the links to make, given a layer and the possible links into it."""


def hungarian(trellis: Trellis) -> Choose:
    """Reach the greatest total gain of every layer."""
    return lambda _, possible: assign(trellis.edges(possible), optimal=True)


def greedy(trellis: Trellis) -> Choose:
    """Take the best link first."""
    return lambda _, possible: assign(trellis.edges(possible), optimal=False)


def murty(trellis: Trellis) -> Choose:
    """Make the links of the best of several hypotheses about all layers."""
    wanted = best_hypothesis(trellis)

    def choose(layer: int, possible: Possible) -> Bool[np.ndarray, "link"]:
        source, target = trellis.places(layer, possible)
        return wanted.reshape(-1)[target.flat] == source.in_sample

    return choose


STRATEGIES: Mapping[str, Callable[[Trellis], Choose]] = {
    "hungarian": hungarian,
    "greedy": greedy,
    "identity": greedy,
    "murty": murty,
}
