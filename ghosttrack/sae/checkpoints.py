"""The earlier codes' `.pt` files of one SAE, loaded without running code from them.

Both encoders were given x, not x - b_dec, and `model_state_dict` holds two linear layers:

    W_enc, W_dec, threshold    acts = pre where pre > threshold, one threshold for all latents
    encoder, decoder           acts = the k pre-activations of largest magnitude, with their sign
"""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ghosttrack.errors import DataError
from ghosttrack.sae.bank_files import HookSAE, checked, in_fp32
from ghosttrack.sae.config import Architecture

LAYER = re.compile(r"(?:.*_)?layer_?(\d+)(?:_.*)?")


def read_checkpoint(path: Path) -> HookSAE:
    """Read one file, in fp32.

    Raises:
        DataError: It is missing or malformed, needs code to be loaded, or is of another kind.
    """
    content = _content(path)
    state = content["model_state_dict"]
    hook, facts = _hook(content, path), _facts(content)
    if "W_enc.weight" in state:
        sae = checked(_jumprelu(hook, state, path), path).uncentred().unit_rows()
    else:
        sae = _signed_topk(hook, state, content["config"].get("k"), path)
        sae = checked(sae, path).uncentred()
    return sae._replace(metadata=facts)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:  # its own words advise to run the code
        raise DataError(
            f"{path}: cannot be loaded as tensors and numbers: it would need code to be run, or is"
            " damaged"
        ) from error
    except (OSError, EOFError, IndexError, RuntimeError) as error:
        reason = next(iter(str(error).strip().splitlines()), "it ends too early")
        raise DataError(
            f"{path}: cannot be loaded as tensors and numbers ({reason}); give a bank, a folder of"
            " SAEs or a .pt file of one"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("model_state_dict"), dict):
        raise DataError(f"{path} lacks model_state_dict")
    return {"config": {}, **content}


def _facts(content: dict[str, Any]) -> dict[str, Any]:
    """Take what the file says in single words and numbers: settings, epoch, metrics."""
    said = {**content["config"], **content.get("metrics", {}), **content}
    return {
        str(name): value
        for name, value in said.items()
        if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    }


def _hook(content: dict[str, Any], path: Path) -> str:
    """Name the hook point after what the file says, else after its name."""
    config = content["config"]
    layer = content.get("layer_idx", config.get("layer"))
    if layer is None:
        match = LAYER.fullmatch(path.stem)
        if match is None:
            raise DataError(f"{path}: no layer in it or in its name, such as sae_layer_3_best.pt")
        layer = match[1]
    position = config.get("position")
    return f"layer_{layer}" if position is None else f"layer_{layer}_pos_{position}"


def _jumprelu(hook: str, state: dict[str, Any], path: Path) -> HookSAE:
    bias = "W_dec.bias" if "W_dec.bias" in state else "b_dec"
    names = ("W_enc.weight", "W_enc.bias", "W_dec.weight", bias, "threshold")
    tensors = in_fp32(state, names, path)
    encoder, b_enc, decoder, b_dec, threshold = (tensors[name] for name in names)
    if (threshold < 0).any():
        raise DataError(f"{path}: threshold is negative; activations here are at least 0")
    if threshold.ndim == 0:
        threshold = threshold.expand(b_enc.shape)
    k = len(b_enc)
    return HookSAE(hook, Architecture.jumprelu, k, encoder.mT, b_enc, decoder.mT, b_dec, threshold)


def _signed_topk(hook: str, state: dict[str, Any], k: int | None, path: Path) -> HookSAE:
    """Write a latent of either sign as two of ours, of opposite directions.

    Of each pair at most one is above 0, so the k largest are those of largest magnitude. Rows stay
    as they are: norms had no part in the selection.
    """
    names = ("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias")
    tensors = in_fp32(state, names, path)
    encoder, b_enc, decoder, b_dec = (tensors[name] for name in names)
    if k is None:
        raise DataError(f"{path} lacks config.k")
    W_enc, b_enc, W_dec = _both(encoder).mT, _both(b_enc), _both(decoder.mT)
    return HookSAE(hook, Architecture.topk, k, W_enc, b_enc, W_dec, b_dec, None)


def _both(latents: Float[Tensor, "latent *d_model"]) -> Float[Tensor, "two_latents *d_model"]:
    return torch.cat([latents, -latents])


def preferred(files: Iterable[Path]) -> list[Path]:
    """Leave out final checkpoints that have a best one beside them."""
    every = list(files)
    best = {
        file.with_name(file.name.replace("_best", "_final"))
        for file in every
        if "_best" in file.name
    }
    return [file for file in every if file not in best]
