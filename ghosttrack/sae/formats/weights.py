"""One SAE as it stands in a file, whichever library wrote it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import normalize

from ghosttrack.errors import DataError
from ghosttrack.sae.config import Architecture
from ghosttrack.sae.hooks import hook_of


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


def uncentred(sae: HookSAE) -> HookSAE:
    """Take an SAE whose encoder was given x, and not x - b_dec, to our equation."""
    shift = sae.b_dec.double() @ sae.W_enc.double()
    return sae._replace(b_enc=(sae.b_enc + shift).float())


def unit_rows(sae: HookSAE) -> HookSAE:
    """Move the norms of W_dec's rows to the encoder: activations change, x_hat does not.

    With thresholds nothing else changes either. `topk` would select others, unless it was to select
    by activation times norm all along; where it was not, rows have to stay as they are.
    """
    norm = sae.W_dec.norm(dim=1)
    return sae._replace(
        W_enc=sae.W_enc * norm,
        b_enc=sae.b_enc * norm,
        W_dec=normalize(sae.W_dec, dim=1),
        threshold=None if sae.threshold is None else sae.threshold * norm,
    )


def read_tensors(path: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """Read a safetensors file in fp32; `names` must be among what it holds.

    Raises:
        DataError: It is missing or malformed, or lacks a tensor.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} is missing or no safetensors file: {error}") from error
    return in_fp32(tensors, names, path)


def in_fp32(tensors: Mapping[str, Any], names: Sequence[str], path: Path) -> dict[str, Tensor]:
    """Take the tensors out of a mapping.

    Raises:
        DataError: One of `names` is missing.
    """
    missing = sorted(set(names) - tensors.keys())
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}")
    return {name: one.float() for name, one in tensors.items() if isinstance(one, Tensor)}


def require(cfg: Mapping[str, Any], accepted: Mapping[str, tuple[object, ...]], path: Path) -> None:
    """Refuse a setting of another library that would change the output.

    Args:
        cfg: The settings; a missing one has its first accepted value.
        accepted: What each may be.
        path: Where they stand.

    Raises:
        DataError: One is something else.
    """
    for key, values in accepted.items():
        if cfg.get(key, values[0]) not in values:
            raise DataError(f"{path}: {key} is {cfg[key]!r}, only {values[0]!r} is read")


def named(name: str, path: Path) -> str:
    """Translate the name of a place.

    Raises:
        DataError: It is not the residual stream after a block.
    """
    hook = hook_of(name)
    if hook is None:
        raise DataError(
            f"{path}: {name!r} is not the residual stream after a block, such as layer_3,"
            " layers.3 or blocks.3.hook_resid_post"
        )
    return hook
