"""What texts begin with in common, so that it is read once."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import takewhile
from operator import eq
from typing import NamedTuple

LEAST_SHARED = 8
"""Tokens of a beginning that is looked at."""
LEAST_SAVED = 256
"""Tokens that a beginning must save: each costs a pass of its own, and parts a batch."""
LEAST_SHARE = 0.25
"""Of all texts, that must begin alike."""


class Together(NamedTuple):
    """Texts that are read together."""

    rows: list[int]
    shared: tuple[int, ...]
    """What all of them begin with."""


def read_together(
    texts: Sequence[Sequence[int]], limits: Sequence[int], can_share: Callable[[], bool]
) -> list[Together]:
    """Part texts by a long common beginning, where knowing it saves work; the others come first.

    Args:
        texts: Token ids.
        limits: Tokens of each text that may be read once for all, at most.
        can_share: Asked where it would pay; nothing is shared if not.
    """
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row, (text, limit) in enumerate(zip(texts, limits, strict=True)):
        alike[tuple(text[:LEAST_SHARED]) if limit >= LEAST_SHARED else ()].append(row)
    apart, parts = alike.pop((), []), []
    for rows in alike.values():
        shared = _common([tuple(texts[row][: limits[row]]) for row in rows])
        saves = len(shared) * (len(rows) - 1) >= LEAST_SAVED
        if saves and len(rows) >= LEAST_SHARE * len(texts) and can_share():
            parts.append(Together(rows, shared))
        else:
            apart += rows
    return [Together(sorted(apart), ()), *parts] if apart else parts


def _common(texts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Take the beginning of all texts: the first and the last in order differ the earliest."""
    low, high = min(texts), max(texts)
    n = sum(takewhile(bool, map(eq, low, high)))
    return low[:n]
