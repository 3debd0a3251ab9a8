"""SAEs out of any folder or file: ours, SAELens', sparsify's, the earlier codes'."""

import logging
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ghosttrack.errors import DataError, whole
from ghosttrack.files import read_json
from ghosttrack.sae.bank_files import BANK, WEIGHTS, HookSAE, checked, read_bank, read_tensors
from ghosttrack.sae.checkpoints import preferred, read_checkpoint
from ghosttrack.sae.config import Architecture
from ghosttrack.sae.hooks import HOOK, layer_of, place_of

AFTER = re.compile(r"blocks\.(\d+)\.hook_resid_post|(?:\w+\.)*(?:layers|h)[._](\d+)")
"""The output of a block in TransformerLens, and as a module of a Hugging Face model."""
BEFORE = re.compile(r"blocks\.([1-9]\d*)\.hook_resid_pre")
ARCHITECTURES = {
    "topk": Architecture.topk,
    "batchtopk": Architecture.batchtopk,
    "matryoshka_batchtopk": Architecture.matryoshka,
    "jumprelu": Architecture.jumprelu,
    "standard": Architecture.jumprelu,
}
"""What SAELens calls them; a ReLU is a threshold of 0."""
THRESHOLDS = {
    "jumprelu": ("threshold",),
    "batchtopk": ("topk_threshold",),
    "matryoshka_batchtopk": ("topk_threshold",),
}
"""Tensors that only some of SAELens' have: one per latent, or one for all."""
SAELENS_UNCHANGED = {
    "normalize_activations": ("none", None, False),
    "reshape_activations": ("none",),
    "finetuning_scaling_factor": (False,),
    "activation_fn": ("relu", "topk"),
    "activation_fn_str": ("relu", "topk"),
}
"""Settings, the last three of SAELens before 6, that must leave the equation alone."""
SPARSIFY_WEIGHTS = "sae.safetensors"
SPARSIFY_UNCHANGED = {
    "activation": ("topk",),
    "signed": (False,),
    "transcode": (False,),
    "skip_connection": (False,),
    "embed_skip": (False,),
    "gram_lookup": (False,),
}
"""Settings of sparsify that must leave the equation alone."""

log = logging.getLogger(__name__)


def read_saes(path: Path, layers: Sequence[int] | None = None) -> list[HookSAE]:
    """Read one SAE or several of the same shape, in the order of their hook points.

    Of a folder of many those of other places than a block's output are left out, and said.

    Args:
        path: A bank of ours, a folder of SAELens or sparsify, an earlier code's `.pt` file, or a
            folder that holds any of these, one for each hook point.
        layers: Of a folder of many, those to read; None: all.

    Raises:
        DataError: It is none of them, a file is malformed, none is of a hook point that can be
            read, or SAEs do not go together.
    """
    if (path / BANK).is_file():
        return read_bank(path)
    with whole(path):
        saes = sorted(map(_read, _asked(path, layers)), key=lambda sae: place_of(sae.hook))
    for before, sae in pairwise(saes):
        if sae.hook == before.hook:
            raise DataError(f"{path}: holds several SAEs of {sae.hook}; name one of them")
        if sae.shape != before.shape:
            raise DataError(
                f"{path}: SAEs differ in architecture, d_model, d_sae or k: {before.hook} has"
                f" {before.shape}, {sae.hook} has {sae.shape}"
            )
    return saes


def _parts(path: Path) -> list[Path]:
    """List the folders or files of one SAE each; of a checkpoint's two the best is read."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give a bank, or one SAE or several")
    if path.is_file() or (path / "cfg.json").is_file():
        return [path]
    folders = [file.parent for file in path.glob("*/cfg.json")]
    parts = folders or preferred(path.glob("*.pt"))
    if not parts:
        raise DataError(
            f"{path}: no SAE: neither {BANK} nor cfg.json nor a .pt file is there; give a bank"
        )
    return parts


def _asked(path: Path, layers: Sequence[int] | None) -> list[Path]:
    """Of several parts leave out those whose place is none that can be read, or not asked for."""
    parts = _parts(path)
    if len(parts) == 1 or parts[0].is_file():
        return parts
    hooks = {part: hook_of(_place(part)) for part in parts}
    known = {part: hook for part, hook in hooks.items() if hook is not None}
    if not known:
        _hook(_place(parts[0]), parts[0])
    if left_out := sorted(part.name for part in parts if part not in known):
        log.warning(
            "%s: %d of %d SAEs are of no block's output and left out: %s",
            *(path, len(left_out), len(parts), ", ".join(left_out)),
        )
    asked = [part for part, hook in known.items() if layers is None or layer_of(hook) in layers]
    return asked or list(known)


def _place(part: Path) -> str:
    """Say where a folder's SAE reads, as its files name it."""
    if (part / SPARSIFY_WEIGHTS).is_file():
        return part.name
    cfg = read_json(part / "cfg.json")
    metadata = cfg.get("metadata") or {}
    places = (metadata.get("hook"), metadata.get("hook_name"), cfg.get("hook_name"))
    return next((one for one in (*places, cfg.get("hook_point")) if one), part.name)


def _read(part: Path) -> HookSAE:
    if part.is_file():
        return read_checkpoint(part)
    return read_sparsify(part) if (part / SPARSIFY_WEIGHTS).is_file() else read_saelens(part)


def read_saelens(folder: Path) -> HookSAE:
    """Read `cfg.json` and `sae_weights.safetensors` of SAELens, version 6 or before, in fp32.

    Rows of W_dec get unit norm but for a `topk` that selects before the decoder's norms count.

    Raises:
        DataError: A file is missing or malformed, or holds what cannot be read exactly.
    """
    path, weights = folder / "cfg.json", folder / WEIGHTS
    cfg = _without_nulls(read_json(path))
    _require(cfg, SAELENS_UNCHANGED, path)
    architecture = _architecture(cfg, path)
    place = _place(folder)
    names = ("W_enc", "b_enc", "W_dec", "b_dec", *THRESHOLDS.get(cfg.get("architecture", ""), ()))
    tensors = read_tensors(weights, names)
    W_enc, b_enc, W_dec, b_dec, *threshold = (tensors[name] for name in names)
    sae = HookSAE(
        _hook(place, path),
        architecture,
        _k(cfg, path, len(b_enc)),
        *(W_enc, b_enc, W_dec, b_dec),
        threshold=_each(threshold, b_enc) if architecture.has_threshold else None,
        metadata=cfg.get("metadata", {}),
    )
    sae = checked(sae, weights)
    if not cfg.get("apply_b_dec_to_input", True):
        sae = sae.uncentred()
    if cfg.get("rescale_acts_by_decoder_norm") and not architecture.learns_threshold:
        return sae.unit_rows()._replace(threshold=sae.threshold)  # learned with the norms counted
    return sae.unit_rows() if architecture.has_threshold else sae


def _architecture(cfg: Mapping[str, Any], path: Path) -> Architecture:
    if "k" in cfg and "architecture" not in cfg:
        raise DataError(f"{path} lacks architecture, which its k alone does not tell")
    name = cfg.get("architecture", "standard")
    if "topk" in (cfg.get("activation_fn"), cfg.get("activation_fn_str")):
        name = "topk"
    if name not in ARCHITECTURES:
        raise DataError(
            f"{path}: architecture is {name!r}, only {', '.join(ARCHITECTURES)} is read"
        )
    return ARCHITECTURES[name]


def _k(cfg: Mapping[str, Any], path: Path, d_sae: int) -> int:
    k = cfg.get("k", cfg.get("activation_fn_kwargs", {}).get("k"))
    if k is None and not _architecture(cfg, path).has_threshold:
        raise DataError(f"{path} lacks k")
    return d_sae if k is None else round(k)


def _each(threshold: Sequence[Tensor], b_enc: Tensor) -> Tensor:
    """Return a threshold per latent, 0 where there is none; negative ones act as 0 after a ReLU."""
    if not threshold:
        return torch.zeros_like(b_enc)
    value = threshold[0].clamp(min=0)
    return value if value.ndim else value.expand(b_enc.shape)


def read_sparsify(folder: Path) -> HookSAE:
    """Read EleutherAI sparsify's folder, named after its hook point, in fp32.

    Rows of W_dec stay as they are: TopK selects by pre-activation alone.

    Raises:
        DataError: A file is missing or malformed, or holds what cannot be read exactly.
    """
    path, weights = folder / "cfg.json", folder / SPARSIFY_WEIGHTS
    cfg = _without_nulls(read_json(path))
    _require(cfg, SPARSIFY_UNCHANGED, path)
    if "k" not in cfg:
        raise DataError(f"{path} lacks k")
    names = ("encoder.weight", "encoder.bias", "W_dec", "b_dec")
    tensors = read_tensors(weights, names)
    weight, b_enc, W_dec, b_dec = (tensors[name] for name in names)
    hook, topk = _hook(folder.name, folder), Architecture.topk
    return checked(HookSAE(hook, topk, cfg["k"], weight.mT, b_enc, W_dec, b_dec, None), weights)


def _without_nulls(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Take a field that is null for one that is not there."""
    return {name: value for name, value in cfg.items() if value is not None}


def _require(
    cfg: Mapping[str, Any], accepted: Mapping[str, tuple[object, ...]], path: Path
) -> None:
    """Refuse settings that would change the output; a missing one has its first accepted value."""
    for key, values in accepted.items():
        if cfg.get(key, values[0]) not in values:
            raise DataError(f"{path}: {key} is {cfg[key]!r}, only {values[0]!r} is read")


def _hook(name: str, path: Path) -> str:
    hook = hook_of(name)
    if hook is None:
        raise DataError(
            f"{path}: {name!r} is not the residual stream after a block, such as layer_3,"
            " layers.3 or blocks.3.hook_resid_post"
        )
    return hook


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
