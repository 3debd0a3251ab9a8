"""SAELens' folder of one SAE: `cfg.json` and `sae_weights.safetensors`, as SAELens 6 reads it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ghosttrack.errors import DataError
from ghosttrack.files import read_json, write_json
from ghosttrack.sae.config import Architecture
from ghosttrack.sae.formats.weights import (
    HookSAE,
    checked,
    named,
    read_tensors,
    require,
    uncentred,
    unit_rows,
)
from ghosttrack.sae.hooks import layer_of

SAELENS_VERSION = "6.0.0"
"""Below 6, or with none named, SAELens assumes an older format and drops the metadata."""
WEIGHTS = "sae_weights.safetensors"
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
"""Tensors that only some have: one per latent, or one for all."""
UNCHANGED = {
    "normalize_activations": ("none", None, False),
    "reshape_activations": ("none",),
    "finetuning_scaling_factor": (False,),
    "activation_fn": ("relu", "topk"),
    "activation_fn_str": ("relu", "topk"),
}
"""Settings, the last three of SAELens before 6, that must leave the equation alone."""


def write_saelens(folder: Path, sae: HookSAE, metadata: Mapping[str, object]) -> None:
    """Write the two files; `metadata` may hold anything that JSON can.

    Thresholds make an SAE `jumprelu`, as which SAELens itself saves `batchtopk` and `matryoshka`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: one for name, one in sae._asdict().items() if isinstance(one, Tensor)}
    save_file({name: one.cpu().contiguous() for name, one in tensors.items()}, folder / WEIGHTS)
    d_model, d_sae = sae.W_enc.shape
    topk = {"k": sae.k, "rescale_acts_by_decoder_norm": False}
    write_json(
        folder / "cfg.json",
        {
            "architecture": "topk" if sae.threshold is None else "jumprelu",
            "d_in": d_model,
            "d_sae": d_sae,
            **(topk if sae.threshold is None else {}),
            "dtype": str(sae.W_enc.dtype).removeprefix("torch."),
            "device": "cpu",
            "apply_b_dec_to_input": True,
            "normalize_activations": "none",
            "reshape_activations": "none",
            "metadata": {
                "sae_lens_version": SAELENS_VERSION,
                "hook_name": f"blocks.{layer_of(sae.hook)}.hook_resid_post",
                **metadata,
            },
        },
    )


def read_saelens(folder: Path) -> HookSAE:
    """Read SAELens' folder, of version 6 or before, in fp32.

    Rows of W_dec get unit norm but for a `topk` that selects before the decoder's norms count.

    Raises:
        DataError: A file is missing or malformed, or holds what cannot be read exactly.
    """
    path, weights = folder / "cfg.json", folder / WEIGHTS
    cfg = read_json(path)
    require(cfg, UNCHANGED, path)
    architecture = _architecture(cfg, path)
    metadata = cfg.get("metadata", {})
    places = (metadata.get("hook"), metadata.get("hook_name"), cfg.get("hook_name"))
    place = next((one for one in (*places, cfg.get("hook_point")) if one), folder.name)
    names = ("W_enc", "b_enc", "W_dec", "b_dec", *THRESHOLDS.get(cfg.get("architecture", ""), ()))
    tensors = read_tensors(weights, names)
    W_enc, b_enc, W_dec, b_dec, *threshold = (tensors[name] for name in names)
    sae = HookSAE(
        named(place, path),
        architecture,
        _k(cfg, path, len(b_enc)),
        *(W_enc, b_enc, W_dec, b_dec),
        threshold=None if architecture is Architecture.topk else _each(threshold, b_enc),
        metadata=metadata,
    )
    sae = checked(sae, weights)
    if not cfg.get("apply_b_dec_to_input", True):
        sae = uncentred(sae)
    if cfg.get("rescale_acts_by_decoder_norm") and architecture is not Architecture.jumprelu:
        return unit_rows(sae)._replace(threshold=sae.threshold)  # learned with the norms counted
    return sae if architecture is Architecture.topk else unit_rows(sae)


def _architecture(cfg: Mapping[str, Any], path: Path) -> Architecture:
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
    if k is None and _architecture(cfg, path) is Architecture.topk:
        raise DataError(f"{path} lacks k")
    return d_sae if k is None else round(k)


def _each(threshold: Sequence[Tensor], b_enc: Tensor) -> Tensor:
    """Return a threshold per latent, 0 where there is none; negative ones act as 0 after a ReLU."""
    if not threshold:
        return torch.zeros_like(b_enc)
    value = threshold[0].clamp(min=0)
    return value if value.ndim else value.expand(b_enc.shape)
