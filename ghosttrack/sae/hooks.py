"""Names of hook points: ours, and what other libraries call the same places."""

import re

HOOK = re.compile(r"layer_(?P<layer>\d+)(_pos_(?P<pos>-?\d+))?")
AFTER = re.compile(r"blocks\.(\d+)\.hook_resid_post|(?:\w+\.)*(?:layers|h)[._](\d+)")
"""The output of a block in TransformerLens, and as a module of a Hugging Face model."""
BEFORE = re.compile(r"blocks\.([1-9]\d*)\.hook_resid_pre")


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


def hook_of(name: str) -> str | None:
    """Name a place as we do; None where that is not the residual stream after a block.

    >>> [hook_of(name) for name in ("layer_3_pos_2", "blocks.3.hook_resid_post", "model.layers.3")]
    ['layer_3_pos_2', 'layer_3', 'layer_3']
    >>> hook_of("blocks.4.hook_resid_pre")  # what enters block 4 left block 3
    'layer_3'
    >>> hook_of("blocks.3.hook_mlp_out"), hook_of("layers.3.mlp")
    (None, None)
    """
    if HOOK.fullmatch(name):
        return name
    if match := AFTER.fullmatch(name):
        return f"layer_{match[1] or match[2]}"
    if match := BEFORE.fullmatch(name):
        return f"layer_{int(match[1]) - 1}"
    return None
