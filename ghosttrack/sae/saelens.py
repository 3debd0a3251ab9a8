"""SAELens' folder of one SAE: `cfg.json` and `sae_weights.safetensors`, as SAELens 6 reads it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ghosttrack.artifacts import read_json, write_json
from ghosttrack.errors import DataError

SAELENS_VERSION = "6.0.0"
"""Below 6, or with none named, SAELens assumes an older format and drops the metadata."""

HOOK = re.compile(r"layer_(?P<layer>\d+)(_pos_(?P<pos>-?\d+))?")


class HookWeights(NamedTuple):
    """One SAE in the raw units of the residual stream."""

    W_enc: Float[Tensor, "d_model d_sae"]
    b_enc: Float[Tensor, " d_sae"]
    W_dec: Float[Tensor, "d_sae d_model"]
    b_dec: Float[Tensor, " d_model"]


def layer_of(hook: str) -> int:
    """Read the block's index off a hook point's name.

    >>> layer_of("layer_11"), layer_of("layer_3_pos_2")
    (11, 3)
    """
    match = HOOK.fullmatch(hook)
    assert match is not None, f"{hook!r} is no hook point: layer_<l> or layer_<l>_pos_<p>"
    return int(match["layer"])


def write_hook(folder: Path, weights: HookWeights, k: int, metadata: Mapping[str, object]) -> None:
    """Write the two files; `metadata` may hold anything that JSON can."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: w.cpu().contiguous() for name, w in weights._asdict().items()}
    save_file(tensors, folder / "sae_weights.safetensors")
    d_model, d_sae = weights.W_enc.shape
    write_json(
        folder / "cfg.json",
        {
            "architecture": "topk",
            "d_in": d_model,
            "d_sae": d_sae,
            "k": k,
            "dtype": str(weights.W_enc.dtype).removeprefix("torch."),
            "device": "cpu",
            "apply_b_dec_to_input": True,
            "normalize_activations": "none",
            "reshape_activations": "none",
            "rescale_acts_by_decoder_norm": False,
            "metadata": {
                "sae_lens_version": SAELENS_VERSION,
                "hook_name": f"blocks.{layer_of(folder.name)}.hook_resid_post",
                **metadata,
            },
        },
    )


def read_hook(folder: Path) -> HookWeights:
    """Read what `write_hook` wrote, in fp32.

    Raises:
        DataError: A file is missing or malformed, or holds another kind of SAE.
    """
    cfg = read_json(folder / "cfg.json")
    expected = {
        "architecture": "topk",
        "normalize_activations": "none",
        "apply_b_dec_to_input": True,
    }
    for key, value in expected.items():
        if cfg.get(key, value) != value:
            raise DataError(f"{folder / 'cfg.json'}: {key} is {cfg[key]!r}, only {value!r} is read")
    path = folder / "sae_weights.safetensors"
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} is missing or no safetensors file: {error}") from error
    missing = set(HookWeights._fields) - tensors.keys()
    if missing:
        raise DataError(f"{path} lacks {', '.join(sorted(missing))}")
    return HookWeights(*(tensors[name].to(torch.float32) for name in HookWeights._fields))
