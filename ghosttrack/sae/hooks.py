"""Hook points: their names, and what the quality of one is called."""

import re

HOOK = re.compile(r"layer_(?P<layer>\d+)(_pos_(?P<pos>-?\d+))?")
FVU_BANDS = {"excellent": 0.05, "good": 0.10, "fair": 0.30}
"""FVU below which a hook point is called so; any other is poor."""


def layer_of(hook: str) -> int:
    """Read the block's index off a hook point's name.

    >>> layer_of("layer_11"), layer_of("layer_3_pos_2")
    (11, 3)
    """
    return place_of(hook)[0]


def place_of(hook: str) -> tuple[int, int]:
    """Read layer and position off a hook point's name, to sort by; without a position it is 0.

    >>> place_of("layer_3_pos_2"), place_of("layer_11")
    ((3, 2), (11, 0))
    """
    match = HOOK.fullmatch(hook)
    assert match is not None, f"{hook!r} is no hook point: layer_<l> or layer_<l>_pos_<p>"
    return int(match["layer"]), int(match["pos"] or 0)
