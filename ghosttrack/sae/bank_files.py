"""Files of a bank: a folder of SAELens per hook point, and `bank.json` for what those lack."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize

from ghosttrack.errors import DataError, whole
from ghosttrack.files import read_json, write_json
from ghosttrack.sae.config import Architecture
from ghosttrack.sae.hooks import layer_of, place_of

BANK = "bank.json"
FORMAT_VERSION = 1
"""Of `bank.json`."""
FACTS = ("hooks", "architecture", "d_model", "d_sae", "k", "scale")
SAELENS_VERSION = "6.0.0"
"""Below 6, or with none named, SAELens assumes an older format and drops the metadata."""
WEIGHTS = "sae_weights.safetensors"


class HookSAE(NamedTuple):
    """One SAE in the raw units of the residual stream; rows of W_dec may be of any norm.

    pre = (x - b_dec) W_enc + b_enc        x_hat = active(pre) W_dec + b_dec
    """

    hook: str
    architecture: Architecture
    k: int
    """Most latents that are active on one token, or their mean; d_sae where no file says."""
    W_enc: Float[Tensor, "d_model d_sae"]
    b_enc: Float[Tensor, " d_sae"]
    W_dec: Float[Tensor, "d_sae d_model"]
    b_dec: Float[Tensor, " d_model"]
    threshold: Float[Tensor, " d_sae"] | None
    """Pre-activation above which a latent is active, at least 0; None for `topk`."""
    scale: float = 1.0
    """Factor that standardises the residual stream; 1 where no file says."""
    metadata: Mapping[str, Any] = {}
    """What its file says of it besides."""

    @property
    def shape(self) -> tuple[str, int, int, int]:
        """What all SAEs of a bank share: architecture, d_model, d_sae and k."""
        d_model, d_sae = self.W_enc.shape
        return self.architecture.name, d_model, d_sae, self.k

    def uncentred(self) -> "HookSAE":
        """Take an SAE whose encoder was given x, and not x - b_dec, to our equation."""
        shift = self.b_dec.double() @ self.W_enc.double()
        return self._replace(b_enc=(self.b_enc + shift).float())

    def unit_rows(self) -> "HookSAE":
        """Move the norms of W_dec's rows to the encoder: activations change, x_hat does not.

        With thresholds nothing else changes either. `topk` would select others, unless it was to
        select by activation times norm all along; where it was not, rows have to stay as they are.
        """
        norm = self.W_dec.norm(dim=1)
        return self._replace(
            W_enc=self.W_enc * norm,
            b_enc=self.b_enc * norm,
            W_dec=normalize(self.W_dec, dim=1),
            threshold=None if self.threshold is None else self.threshold * norm,
        )


def write_sae(folder: Path, sae: HookSAE, metadata: Mapping[str, object]) -> None:
    """Write SAELens' two files; `metadata` may hold anything that JSON can.

    Thresholds make an SAE `jumprelu`, as which SAELens itself saves `batchtopk` and `matryoshka`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: one for name, one in sae._asdict().items() if isinstance(one, Tensor)}
    save_file({name: one.cpu().contiguous() for name, one in tensors.items()}, folder / WEIGHTS)
    d_model, d_sae = sae.W_enc.shape
    topk = {"k": sae.k, "rescale_acts_by_decoder_norm": False}
    said = {
        "architecture": _saelens_name(sae.architecture),
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
    }
    write_json(folder / "cfg.json", said)


def _saelens_name(architecture: Architecture) -> str:
    return "jumprelu" if architecture.has_threshold else "topk"


def read_bank(folder: Path) -> list[HookSAE]:
    """Read what `Bank.save` wrote, in the order of its hook points, in fp32.

    Raises:
        DataError: A file is missing or malformed, or they do not go together.
    """
    path = folder / BANK
    with whole(folder):
        facts = read_json(path)
        architecture = _checked_architecture(facts, path)
        saes = []
        for hook, scale in zip(facts["hooks"], facts["scale"], strict=True):
            place_of(hook)  # or it would be a folder elsewhere
            if not 0 < scale < math.inf:
                raise DataError(f"{path}: the scale of {hook} is {scale}, which is not above 0")
            cfg, weights = read_json(folder / hook / "cfg.json"), folder / hook / WEIGHTS
            tensors = read_tensors(weights, ("W_enc", "b_enc", "W_dec", "b_dec"))
            sae = HookSAE(
                hook,
                architecture,
                facts["k"],
                *(tensors["W_enc"], tensors["b_enc"], tensors["W_dec"], tensors["b_dec"]),
                threshold=tensors.get("threshold"),
                scale=scale,
                metadata=cfg.get("metadata", {}),
            )
            found = cfg.get("architecture"), *sae.W_enc.shape, sae.threshold is not None
            wanted = _saelens_name(architecture), facts["d_model"], facts["d_sae"]
            if found != (*wanted, architecture.has_threshold):
                raise DataError(f"{folder / hook}: holds {found[:3]}, {path} says {wanted}")
            saes.append(checked(sae, weights))
    return saes


def _checked_architecture(facts: Mapping[str, Any], path: Path) -> Architecture:
    if missing := sorted(set(FACTS) - facts.keys()):
        raise DataError(f"{path} lacks {', '.join(missing)}")
    version = facts.get("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise DataError(f"{path}: format_version is {version}, only {FORMAT_VERSION} is read")
    if not facts["hooks"]:
        raise DataError(f"{path}: is malformed, without hook points")
    if not 1 <= facts["k"] <= facts["d_sae"]:
        raise DataError(f"{path}: k is {facts['k']}, which is not in 1..{facts['d_sae']}")
    try:
        return Architecture[facts["architecture"]]
    except KeyError as error:
        raise DataError(f"{path}: architecture is {error}, which is none of ours") from error


def checked(sae: HookSAE, path: Path) -> HookSAE:
    """Make sure that tensors read from a file fit together and are numbers.

    Raises:
        DataError: They do not, or one is NaN or infinite somewhere.
    """
    d_sae, d_model = sae.W_dec.shape if sae.W_dec.ndim == 2 else (0, 0)
    expected = {"W_enc": (d_model, d_sae), "b_enc": (d_sae,), "b_dec": (d_model,)}
    if sae.threshold is not None:
        expected["threshold"] = (d_sae,)
    for name, shape in expected.items():
        actual = tuple(getattr(sae, name).shape)
        if actual != shape:
            raise DataError(
                f"{path}: {name} is {list(actual)}, which W_dec {list(sae.W_dec.shape)} wants"
                f" {list(shape)}"
            )
    for name in (*expected, "W_dec"):
        if not getattr(sae, name).isfinite().all():
            raise DataError(f"{path}: {name} holds NaN or infinity")
    if not 1 <= sae.k <= d_sae:
        raise DataError(f"{path}: k must be in 1..{d_sae}, its number of latents, got {sae.k}")
    return sae


def read_tensors(path: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """Read a safetensors file in fp32; `names` must be among what it holds.

    Raises:
        DataError: It is missing or malformed, or lacks a tensor.
    """
    try:
        return in_fp32(load_file(path), names, path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} is missing or no safetensors file: {error}") from error


def in_fp32(tensors: Mapping[str, Any], names: Sequence[str], path: Path) -> dict[str, Tensor]:
    """Take the tensors out of a mapping.

    Raises:
        DataError: One of `names` is missing.
    """
    if missing := sorted(set(names) - tensors.keys()):
        raise DataError(f"{path} lacks {', '.join(missing)}")
    return {name: one.float() for name, one in tensors.items() if isinstance(one, Tensor)}
