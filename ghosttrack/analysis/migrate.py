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
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ghosttrack.analysis.imports import SUPERSEDED, Group, group, import_bank, import_result
from ghosttrack.artifacts import Artifact
from ghosttrack.command import make_folder, parser, run, say
from ghosttrack.errors import ConfigError, DataError, check_folder_name
from ghosttrack.files import write_json

CHECKPOINTS, RESULTS = Path("models", "checkpoints"), Path("results")


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
