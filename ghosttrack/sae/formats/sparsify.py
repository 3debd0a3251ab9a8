"""EleutherAI sparsify's folder of one SAE: `cfg.json` and `sae.safetensors`."""

from pathlib import Path

from ghosttrack.errors import DataError
from ghosttrack.files import read_json
from ghosttrack.sae.config import Architecture
from ghosttrack.sae.formats.weights import HookSAE, checked, named, read_tensors, require

WEIGHTS = "sae.safetensors"
UNCHANGED = {
    "activation": ("topk",),
    "signed": (False,),
    "transcode": (False,),
    "skip_connection": (False,),
    "embed_skip": (False,),
    "gram_lookup": (False,),
}
"""Settings that must leave the equation alone."""


def read_sparsify(folder: Path) -> HookSAE:
    """Read a folder that is named after its hook point, in fp32.

    Rows of W_dec stay as they are: TopK selects by pre-activation alone.

    Raises:
        DataError: A file is missing or malformed, or holds what cannot be read exactly.
    """
    path = folder / "cfg.json"
    cfg = read_json(path)
    require(cfg, UNCHANGED, path)
    if "k" not in cfg:
        raise DataError(f"{path} lacks k")
    names = ("encoder.weight", "encoder.bias", "W_dec", "b_dec")
    tensors = read_tensors(folder / WEIGHTS, names)
    weight, b_enc, W_dec, b_dec = (tensors[name] for name in names)
    sae = HookSAE(
        named(folder.name, folder),
        Architecture.topk,
        cfg["k"],
        weight.mT,
        b_enc,
        W_dec,
        b_dec,
        None,
    )
    return checked(sae, folder / WEIGHTS)
