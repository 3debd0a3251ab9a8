"""What lies under an output folder: artefacts, what each was made from, and what nothing uses."""

import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout
from rich.console import Console
from rich.table import Table

from ghosttrack.artifacts import AT_WORK, KINDS, Artifact, at_work, is_complete, read
from ghosttrack.errors import DataError, GhostTrackError, whole
from ghosttrack.files import in_bytes

WIDTH = 160
"""Columns of a table that goes to no terminal."""
PARTIAL = ".partial"
"""At the end of the name of a folder in the making."""
DOOMED = ".deleted-"
"""Before the name of a folder on its way out: it is no artefact from the first moment on."""


class BuiltArtifact(NamedTuple):
    """An artefact with what it was made from."""

    artifact: Artifact
    made_from: tuple[Path, ...]

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.artifact.path


def show(root: Path) -> None:
    """Print a table of the artefacts below a folder, model by model."""
    entries = find(root)
    used = in_use(root, entries)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("kind", "size", "age", "used", "artefact", "made from"):
        table.add_column(column, justify="right" if column == "size" else "left", overflow="fold")
    for entry in entries:
        folder, manifest = entry.folder, entry.artifact.manifest
        table.add_row(
            manifest["kind"],
            in_bytes(entry.artifact.n_bytes),
            age(manifest["created"]),
            "yes" if folder in used else "no",
            str(folder.relative_to(root)),
            ", ".join(f"{one.parent.name}/{one.name}" for one in entry.made_from) or "-",
        )
    console = Console(markup=False, width=None if Console().is_terminal else WIDTH)
    console.print(table)
    total = sum(entry.artifact.n_bytes for entry in entries)
    console.print(f"{len(entries)} artefacts, {in_bytes(total)}")


def sweep_out(root: Path, *, delete: bool) -> None:
    """Name what nothing uses, and delete it where that is wanted.

    Used is what a run's folder links to, and what that was made from; and all of a model that a
    program is at work with. Left-overs of builds that nobody is at any more, and of deletions that
    were cut short, are of no use either.
    """
    console = Console(soft_wrap=True, highlight=False, markup=False)
    with ExitStack() as locks:
        busy = [model for model in _models(root) if not _is_alone(model, locks, delete=delete)]
        for model in busy:
            console.print(f"{model}: a program is at work there; its artefacts are left alone")
        _sweep_out(root, busy, console, delete=delete)


def _sweep_out(root: Path, busy: Sequence[Path], console: Console, *, delete: bool) -> None:
    entries = find(root)
    used = in_use(root, entries)
    unused = [entry.folder for entry in entries if entry.folder not in used]
    doomed = [one for one in (*unused, *left_overs(root)) if one.parents[1] not in busy]
    for folder in doomed:
        goes_on = "  (unfinished: its command would go on from here)" * (folder.suffix == PARTIAL)
        console.print(f"{in_bytes(_size(folder)):>10}  {folder}{goes_on}")
    total = in_bytes(sum(map(_size, doomed)))
    if busy and not doomed:
        console.print("nothing else is unused")
    elif not doomed:
        console.print(f"{root}: every artefact is used")
    elif not delete:
        console.print(f"nothing uses these {len(doomed)} folders ({total}); --yes deletes them")
    else:
        for folder in doomed:
            _delete(folder)
        console.print(f"deleted {len(doomed)} folders, {total}")


def find(root: Path) -> list[BuiltArtifact]:
    """Read the manifests of all artefacts below a folder: outputs/, or one model's.

    Raises:
        DataError: There is no such folder, or no artefact in it.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the one that programs write to")
    found = [_read(folder) for folder in _folders(root)]
    artifacts = [one for one in found if one is not None]
    if not artifacts:
        raise DataError(f"{root}: holds no artefact; give outputs/ or a model's folder there")
    by_id = {(one.path.parents[1], one.id): one.path for one in artifacts}
    return [
        BuiltArtifact(
            one,
            tuple(
                sorted(
                    {
                        by_id[key]
                        for text in _texts(one.manifest["identity"])
                        if (key := (one.path.parents[1], text)) in by_id
                    }
                )
            ),
        )
        for one in artifacts
    ]


def in_use(root: Path, entries: Sequence[BuiltArtifact]) -> set[Path]:
    """Find the artefacts that runs link to, and all that those were made from.

    A link tells by its name, too: outputs that were moved or copied keep theirs.
    """
    made_from = {entry.folder.resolve(): entry for entry in entries}
    named: dict[str, list[BuiltArtifact]] = defaultdict(list)
    for entry in entries:
        named[f"{entry.folder.parent.name}-{entry.folder.name}"].append(entry)
    models = {entry.folder.parents[1] for entry in entries}
    places = {root, *models, *(model.parent for model in models)}
    links = [
        link
        for place in places
        for pattern in ("runs/*/*/artifacts/*", "sweeps/*/*/artifacts/*")
        for link in place.glob(pattern)
    ]
    used: set[Path] = set()
    waiting = [made_from[one] for link in links if (one := link.resolve()) in made_from]
    waiting += [entry for link in links for entry in named.get(link.name, ())]
    while waiting:
        entry = waiting.pop()
        if entry.folder not in used:
            used.add(entry.folder)
            waiting += [made_from[one.resolve()] for one in entry.made_from]
    return used


def left_overs(root: Path) -> list[Path]:
    """List what builds and deletions left that ended in the middle, and nobody goes on with."""
    partial = [
        folder
        for kind in _kinds(root)
        for folder in kind.glob(f".*{PARTIAL}")
        if _is_free(folder.with_suffix(".lock"))
    ]
    return partial + [folder for kind in _kinds(root) for folder in kind.glob(f"{DOOMED}*")]


def age(created: str) -> str:
    """Say how long ago a manifest was written."""
    then = datetime.strptime(created, "%Y-%m-%dT%H:%M:%S%z")
    seconds = max(0.0, time.time() - then.timestamp())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _kinds(root: Path) -> Iterator[Path]:
    """Go through the folders of one kind each, of one model or of all."""
    for kind in KINDS:
        yield from (place for place in (root / kind, *root.glob(f"*/{kind}")) if place.is_dir())


def _models(root: Path) -> list[Path]:
    return sorted({kind.parent for kind in _kinds(root)})


def _is_alone(model: Path, locks: ExitStack, *, delete: bool) -> bool:
    """Keep programs from beginning with a model, unless one is at work; looking leaves no file."""
    if not (delete or (model / AT_WORK).exists()):
        return True
    try:
        locks.enter_context(at_work(model, alone=True))
    except BlockingIOError:
        return False
    return True


def _folders(root: Path) -> list[Path]:
    held = (folder for kind in _kinds(root) for folder in kind.iterdir())
    return sorted(one for one in held if not one.name.startswith(".") and is_complete(one))


def _read(folder: Path) -> Artifact | None:
    try:
        with whole(folder / "manifest.json"):
            found = read(folder)
            age(found.manifest["created"])
        return found
    except GhostTrackError as error:
        console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
        console.print(f"left out: {error}")
        return None


def _texts(value: Any) -> Iterable[str]:  # noqa: ANN401 - JSON is whatever was written
    """Go through all texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def _size(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())


def _is_free(lock: Path) -> bool:
    """Tell whether nobody builds the artefact that a lock is of; asking leaves no lock behind."""
    if not lock.is_file():
        return True
    try:
        with FileLock(lock).acquire(timeout=0):
            return True
    except Timeout:
        return False


def _delete(folder: Path) -> None:
    """Take an artefact out of sight in one step, then its files from the disk."""
    doomed = folder
    if not folder.name.startswith(DOOMED):
        doomed = folder.with_name(f"{DOOMED}{folder.name.lstrip('.')}")
        folder.rename(doomed)
    if doomed.is_symlink():
        doomed.unlink()
    else:
        shutil.rmtree(doomed)
