"""Import what the earlier codes left: their SAE checkpoints and result files.

The `.pt` files of `models/checkpoints/<model>/`, and of its folders `sae_*`, become SAE banks: the
SAEs of one folder and shape are one bank. Every JSON file below `results/<model>/` becomes an
evaluation of its own kind: the file as it was, and its numbers by name. They come from another
protocol, so no table puts them beside ours. What could not be imported is listed, in
`migration.json` as well; a .pt or .json file among it makes the exit status 1. Doing it again
imports what is missing.

Examples:
    python -m ghosttrack.analysis migrate ~/old/ghosttrack
    python -m ghosttrack.analysis migrate ~/old/ghosttrack --output-root outputs
"""

import argparse
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from ghosttrack.artifacts import Artifact, Key, build
from ghosttrack.command import make_folder, parser, run, say
from ghosttrack.errors import ConfigError, DataError, check_folder_name, whole
from ghosttrack.files import sha256_file, write_json
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.bank_files import HookSAE
from ghosttrack.sae.checkpoints import preferred, read_checkpoint
from ghosttrack.sae.hooks import place_of

CHECKPOINTS, RESULTS = Path("models", "checkpoints"), Path("results")
SUPERSEDED = "its best checkpoint counts"
"""Why a file that could be imported is not."""
UNSAFE = re.compile(r"[^\w.-]+")


class Group(NamedTuple):
    """SAEs that make a bank, in the order of their hook points."""

    saes: Sequence[HookSAE]
    files: Sequence[Path]
    """Where each was read."""


class Import(NamedTuple):
    """One thing that was, or was not, imported."""

    source: str
    """Relative to the old root."""
    became: str
    """The artefact's folder; empty where there is none."""
    reason: str
    """Why there is none."""

    @property
    def failed(self) -> bool:
        """Whether something is missing for want of it."""
        is_ours = self.source.endswith((".pt", ".json"))
        return is_ours and not self.became and self.reason != SUPERSEDED


def main(arguments: list[str]) -> None:
    """Read the options and import."""
    options = parser("ghosttrack.analysis migrate", __doc__)
    options.add_argument("root", type=Path, help="folder with models/checkpoints/ and results/")
    options.add_argument(
        "--output-root", type=Path, default=Path("outputs"), help="default outputs"
    )
    run(lambda: _migrate(options.parse_args(arguments)))


def _migrate(given: argparse.Namespace) -> None:
    if not any((given.root / place).is_dir() for place in (CHECKPOINTS, RESULTS)):
        raise DataError(f"{given.root}: holds neither {CHECKPOINTS}/ nor {RESULTS}/")
    outputs = make_folder(given.output_root)
    done = [*migrate_checkpoints(given.root, outputs), *migrate_results(given.root, outputs)]
    write_json(outputs / "migration.json", [one._asdict() for one in done])
    for one in done:
        say(f"{one.source}: {one.became or f'not imported: {one.reason}'}")
    failed = sum(one.failed for one in done)
    imported = sum(bool(one.became) for one in done)
    say(f"{imported} of {len(done)} imported; {outputs / 'migration.json'} lists them")
    if failed:
        raise DataError(f"{failed} could not be imported")


def migrate_checkpoints(root: Path, outputs: Path) -> list[Import]:
    """Import every model's SAEs."""
    done = []
    for model, entries in _models(root / CHECKPOINTS, root, done):
        files = [file for entry in entries for file in _checkpoints(entry, root, done)]
        groups, refused = group(files)
        done += [_not(file, root, reason) for file, reason in refused.items()]
        for one in groups:
            done += _bank(one, outputs / model, root)
    return done


def migrate_results(root: Path, outputs: Path) -> list[Import]:
    """Import every model's result files."""
    done = []
    for model, entries in _models(root / RESULTS, root, done):
        for entry in entries:
            files = [entry] if entry.is_file() else entry.rglob("*")
            for file in sorted(one for one in files if one.is_file()):
                name = file.relative_to(root / RESULTS / model).with_suffix("").as_posix()
                try:
                    artifact = import_result(file, outputs / model, name)
                except DataError as error:
                    done.append(_not(file, root, str(error)))
                else:
                    done.append(_done(file, root, artifact))
    return done


def _models(folder: Path, root: Path, done: list[Import]) -> Iterable[tuple[str, list[Path]]]:
    """Yield each model with what its folder holds; note in `done` what is in no model's folder."""
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not entry.is_dir():
            done.append(_not(entry, root, "it is in no model's folder"))
            continue
        try:
            check_folder_name("model", entry.name)
        except ConfigError as error:
            done.append(_not(entry, root, str(error)))
            continue
        yield entry.name, sorted(entry.iterdir())


def _checkpoints(entry: Path, root: Path, done: list[Import]) -> list[Path]:
    files = sorted(entry.rglob("*.pt")) if entry.is_dir() else [entry]
    is_ours = entry.name.startswith("sae_") if entry.is_dir() else entry.suffix == ".pt"
    if files and is_ours:
        return files
    reason = "it is neither a .pt file nor in a folder sae_* with some"
    done += [_not(file, root, reason) for file in files or [entry]]
    return []


def _bank(one: Group, folder: Path, root: Path) -> list[Import]:
    try:
        artifact = import_bank(one, folder, root)
    except DataError as error:
        return [_not(file, root, str(error)) for file in one.files]
    return [_done(file, root, artifact) for file in one.files]


def _done(file: Path, root: Path, artifact: Artifact) -> Import:
    return Import(file.relative_to(root).as_posix(), str(artifact.path), "")


def _not(file: Path, root: Path, reason: str) -> Import:
    return Import(file.relative_to(root).as_posix(), "", reason)


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
    """Write a bank below the model's `folder`; what its files say of themselves is provenance.

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
    """Keep a result file as it is below the model's `folder`, and its numbers by name.

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
