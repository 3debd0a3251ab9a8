"""Tell what a folder or file of SAEs is, and read it."""

import math
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from ghosttrack.errors import DataError, whole
from ghosttrack.files import read_json
from ghosttrack.sae.config import Architecture
from ghosttrack.sae.formats import sparsify
from ghosttrack.sae.formats.checkpoints import read_checkpoint
from ghosttrack.sae.formats.saelens import read_saelens
from ghosttrack.sae.formats.sparsify import read_sparsify
from ghosttrack.sae.formats.weights import HookSAE
from ghosttrack.sae.hooks import place_of

BANK = "bank.json"
FORMAT_VERSION = 1
"""Of `bank.json`, as we write it."""
FACTS = ("hooks", "architecture", "d_model", "d_sae", "k", "scale")


def read_saes(path: Path) -> list[HookSAE]:
    """Read one SAE or several of the same shape, in the order of their hook points.

    Args:
        path: A bank of ours, a folder of SAELens or sparsify, an earlier code's `.pt` file, or a
            folder that holds any of these, one for each hook point.

    Raises:
        DataError: It is none of them, a file is malformed, or SAEs do not go together.
    """
    with whole(path):
        if (path / BANK).is_file():
            saes = _read_own(path)
        else:
            saes = sorted(map(_read, _parts(path)), key=lambda sae: place_of(sae.hook))
        first = saes[0]
    for before, sae in pairwise(saes):
        if sae.hook == before.hook:
            raise DataError(f"{path}: holds several SAEs of {sae.hook}; name one of them")
        if sae.shape != first.shape:
            raise DataError(
                f"{path}: SAEs differ in architecture, d_model, d_sae or k: {first.hook} has"
                f" {first.shape}, {sae.hook} has {sae.shape}"
            )
    return saes


def _parts(path: Path) -> list[Path]:
    """List the folders or files of one SAE each; of a checkpoint's two the best is read."""
    if path.is_file() or (path / "cfg.json").is_file():
        return [path]
    folders = [file.parent for file in path.glob("*/cfg.json")]
    parts = folders or preferred(path.glob("*.pt"))
    if not parts:
        raise DataError(f"{path}: no SAE: neither {BANK} nor cfg.json nor a .pt file is there")
    return parts


def preferred(files: Iterable[Path]) -> list[Path]:
    """Leave out final checkpoints that have a best one beside them."""
    every = list(files)
    best = {
        file.with_name(file.name.replace("_best", "_final"))
        for file in every
        if "_best" in file.name
    }
    return [file for file in every if file not in best]


def _read(part: Path) -> HookSAE:
    if part.is_file():
        return read_checkpoint(part)
    return read_sparsify(part) if (part / sparsify.WEIGHTS).is_file() else read_saelens(part)


def _read_own(folder: Path) -> list[HookSAE]:
    """Read SAELens folders, and in `bank.json` what those do not say."""
    path = folder / BANK
    facts: dict[str, Any] = read_json(path)
    missing = sorted(set(FACTS) - facts.keys())
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}")
    version = facts.get("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise DataError(f"{path}: format_version is {version}, only {FORMAT_VERSION} is read")
    try:
        architecture = Architecture[facts["architecture"]]
    except KeyError as error:
        raise DataError(f"{path}: architecture is {error}, which is none of ours") from error
    if not 1 <= facts["k"] <= facts["d_sae"]:
        raise DataError(f"{path}: k is {facts['k']}, which is not in 1..{facts['d_sae']}")
    saes = []
    for hook, scale in zip(facts["hooks"], facts["scale"], strict=True):
        sae = read_saelens(folder / hook)
        sae = sae._replace(hook=hook, architecture=architecture, k=facts["k"], scale=scale)
        if not 0 < scale < math.inf:
            raise DataError(f"{path}: the scale of {hook} is {scale}, which is not above 0")
        sizes = tuple(sae.W_enc.shape)
        has_threshold = architecture is not Architecture.topk
        if sizes != (facts["d_model"], facts["d_sae"]) or has_threshold != (
            sae.threshold is not None
        ):
            raise DataError(f"{folder / hook}: is not the SAE that {path} describes")
        saes.append(sae)
    return saes
