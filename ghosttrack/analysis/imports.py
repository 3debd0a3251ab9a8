"""Turn one bank's checkpoints, or one result file, of the earlier codes into an artefact."""

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from ghosttrack.artifacts import Artifact, Key, build
from ghosttrack.errors import DataError, whole
from ghosttrack.files import sha256_file, write_json
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.formats.checkpoints import read_checkpoint
from ghosttrack.sae.formats.read import preferred
from ghosttrack.sae.formats.weights import HookSAE
from ghosttrack.sae.hooks import place_of

SUPERSEDED = "its best checkpoint counts"
"""Why a file that could be imported is not."""
UNSAFE = re.compile(r"[^\w.-]+")


class Group(NamedTuple):
    """SAEs that make a bank, in the order of their hook points."""

    saes: Sequence[HookSAE]
    files: Sequence[Path]
    """Where each was read."""


def group(files: Iterable[Path]) -> tuple[list[Group], dict[Path, str]]:
    """Put the SAEs of one folder and shape together; say of every other file why it is in none.

    Of a best and a final checkpoint the best counts. Two other files of one hook point and shape
    leave no way to tell which is meant.
    """
    every = list(files)
    chosen = preferred(every)
    refused = {file: SUPERSEDED for file in every if file not in chosen}
    found: dict[tuple[object, ...], list[tuple[Path, HookSAE]]] = {}
    for file in chosen:
        try:
            with whole(file):
                sae = read_checkpoint(file)
        except DataError as error:
            refused[file] = str(error)
            continue
        found.setdefault((file.parent, sae.shape), []).append((file, sae))
    groups = []
    for members in found.values():
        hooks = [sae.hook for _, sae in members]
        alone = [one for one in members if hooks.count(one[1].hook) == 1]
        for file, sae in members:
            if hooks.count(sae.hook) > 1:
                refused[file] = f"several files of its folder hold {sae.hook} in this shape"
        if alone:
            alone.sort(key=lambda one: place_of(one[1].hook))
            groups.append(Group([sae for _, sae in alone], [file for file, _ in alone]))
    return groups, refused


def import_bank(one: Group, folder: Path, root: Path) -> Artifact:
    """Write a bank; what its files say of themselves stands in the manifest.

    Args:
        one: What goes in.
        folder: Of the model, `outputs/<model>`.
        root: That sources are named from.

    Raises:
        DataError: The folder cannot be written.
    """
    architecture, _, d_sae, k = one.saes[0].shape
    identity = {
        "imported": {
            sae.hook: sha256_file(file) for sae, file in zip(one.saes, one.files, strict=True)
        }
    }
    told = {
        sae.hook: {"source": file.relative_to(root).as_posix(), "says": dict(sae.metadata)}
        for sae, file in zip(one.saes, one.files, strict=True)
    }

    def write(partial: Path) -> None:
        Bank.of(one.saes).save(partial, None, {"model_name": folder.name})

    key = Key(folder, "saes", f"{architecture}-{d_sae}-{k}", identity)
    return build(key, write, provenance={"imported_from": told})


def import_result(file: Path, folder: Path, name: str) -> Artifact:
    """Keep a result file as it is, and its numbers by name.

    Args:
        file: JSON.
        folder: Of the model, `outputs/<model>`.
        name: Of the artefact, before it is made safe.

    Raises:
        DataError: It is not JSON or holds no number, or the folder cannot be written.
    """
    if file.suffix != ".json":
        raise DataError(f"{file.suffix or 'this'} is no .json file")
    try:
        numbers = dict(_numbers(json.loads(file.read_text(encoding="utf-8")), ""))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"it cannot be read as JSON ({error})") from error
    if not numbers:
        raise DataError("it holds no number that has a name")

    def write(partial: Path) -> None:
        shutil.copyfile(file, partial / "result.json")
        write_json(partial / "imported.json", {"source": name, "numbers": numbers})

    safe = UNSAFE.sub("-", name).strip(".-") or "result"
    key = Key(folder, "evaluations", f"imported-{safe}", {"imported": sha256_file(file)})
    return build(key, write)


def _numbers(content: object, prefix: str) -> Iterator[tuple[str, float | None]]:
    """Yield every number that has a name; one that is not finite as None.

    >>> dict(_numbers({"f1": 0.5, "layers": [{"mse": 0.1}, {"mse": 0.2}], "folds": [0.9, 0.8]}, ""))
    {'f1': 0.5, 'layers/0/mse': 0.1, 'layers/1/mse': 0.2}
    """
    parts = content.items() if isinstance(content, Mapping) else ()
    if isinstance(content, list):
        parts = [(at, one) for at, one in enumerate(content) if isinstance(one, Mapping | list)]
    for name, value in parts:
        yield from _numbers(value, f"{prefix}/{name}" if prefix else str(name))
    if isinstance(content, float | int) and not isinstance(content, bool) and prefix:
        yield prefix, content if isfinite(content) else None
