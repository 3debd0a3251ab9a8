"""Named, hashed, atomically committed result folders.

An artefact is a folder `<root>/<kind>/<name>-<id>/` with a `manifest.json`. Its id is a hash of
what determines its bytes, so the same configuration finds the same artefact and a changed setting
can never meet a stale file. It is written under a hidden sibling name and renamed when complete: a
folder that has a manifest is whole, whatever was killed when.
"""

import fcntl
import hashlib
import json
import logging
import os
import platform
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from ghosttrack import __version__
from ghosttrack.errors import DataError, whole
from ghosttrack.files import UNFINISHED, fsync, read_json, sha256_file, telling_full, write_json
from ghosttrack.processes import place

FORMAT = 3
"""Version of the layout of artefacts; a change gives every artefact a new id."""

KINDS = (
    *("models", "corpora", "activations", "saes"),
    *("answers", "states", "tracks", "detectors", "evaluations"),
)
POLL_S = 0.2
"""Seconds between two looks at what another process is to leave."""
PATIENCE_S = float(os.environ.get("GHOSTTRACK_PATIENCE_S", "1800"))
"""Seconds after which another process that shows no sign of life has ended."""
OWNER = re.compile(r"pid (\d+) on (.+)")
CHECKSUMS = ".checksums"
"""File of an artefact in the making: what was hashed of it while it was at hand."""

AT_WORK = ".at-work"
"""File of a model's folder that programs lock, together, while they are at work there."""

log = logging.getLogger(__name__)


@contextmanager
def at_work(root: Path, *, alone: bool = False) -> Iterator[None]:
    """Keep a model's artefacts from being deleted; the kernel lets go when the process dies.

    Where nothing can be written, or locked, they stand for themselves.

    Args:
        root: Folder of one model, `outputs/<model>`.
        alone: Keep everybody else from them.

    Raises:
        BlockingIOError: Others are at work there, and `alone` is wanted.
    """
    with ExitStack() as held:
        try:
            root.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context((root / AT_WORK).open("a"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
        except BlockingIOError:
            raise
        except OSError as error:
            log.debug("%s: cannot be locked (%s)", root, error.strerror)
        yield


class Artifact(NamedTuple):
    """A complete artefact."""

    path: Path
    id: str
    """12 hex digits of the SHA-256 of its identity."""
    manifest: dict[str, Any]
    built: bool
    """False where it was found complete."""

    @property
    def n_bytes(self) -> int:
        """Bytes of its files, as the manifest says."""
        return sum(file["bytes"] for file in self.manifest["files"].values())


def artifact_id(identity: Mapping[str, object]) -> str:
    """Hash what determines an artefact's bytes to 12 hex digits.

    >>> artifact_id({"k": 16, "layers": [0, 1]}) == artifact_id({"layers": [0, 1], "k": 16})
    True
    """
    canonical = json.dumps(
        {"format": FORMAT, **identity}, sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


class Key(NamedTuple):
    """What an artefact is found by."""

    root: Path
    """Folder of one model, `outputs/<model>`."""
    kind: str
    """One of `KINDS`."""
    name: str
    """Readable prefix of the folder."""
    identity: Mapping[str, object]
    """JSON values that determine the artefact's bytes."""

    @property
    def folder(self) -> Path:
        """Where the artefact lies, complete or not yet."""
        assert self.kind in KINDS, self.kind
        return self.root / self.kind / f"{self.name}-{artifact_id(self.identity)}"


def build(
    key: Key,
    write: Callable[[Path], None],
    *,
    provenance: Mapping[str, object] | None = None,
    distributed: bool = False,
) -> Artifact:
    """Return the artefact of this identity, writing it first where it is not complete.

    Of several processes that ask at once one writes and the others wait. `write` gets a folder that
    survives a crash: called again after a kill it finds what was there and goes on from it.

    Args:
        key: What it is found by.
        write: Fills the folder that it is given.
        provenance: JSON values for the manifest that do not enter the identity.
        distributed: Every rank calls `write`, which on rank 0 comes back when all have done their
            part; rank 0 holds the lock and commits, the others wait for that.

    Raises:
        DataError: The folder cannot be written, or a complete one does not match its name.
    """
    final = key.folder
    if is_complete(final):
        return read(final, key.kind)
    partial = final.with_name(f".{final.name}.partial")
    if place().rank > 0:
        patience = Patience(str(final))
        while distributed and not (is_complete(final) or partial.is_dir()):
            time.sleep(POLL_S)
            patience.look(_is_held(final) and object())
        if distributed and not is_complete(final):
            with telling_full(partial):
                write(partial)
        return _wait_for(final, key.kind)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{final.parent}: cannot be written ({error.strerror}); set output_root=<folder>"
        ) from error
    with _Lock(final):
        if is_complete(final):
            return read(final, key.kind)
        partial.mkdir(exist_ok=True)
        started = time.monotonic()
        with telling_full(partial):
            write(partial)
        facts = {
            "kind": key.kind,
            "identity": dict(key.identity),
            "provenance": dict(provenance or {}),
        }
        _commit(partial, final, facts, started)
    return read(final, key.kind)._replace(built=True)


def is_complete(folder: Path) -> bool:
    """Tell whether an artefact was committed; a folder without a manifest is not one."""
    return (folder / "manifest.json").is_file()


def read(folder: Path, kind: str | None = None, *, verify: bool = False) -> Artifact:
    """Open a complete artefact.

    Args:
        folder: The artefact's folder.
        kind: What it must be; None takes any.
        verify: Compare every file's checksum, not only names and sizes.

    Raises:
        DataError: No manifest or a malformed one, another kind, an identity that does not hash to
            the folder's name, a missing, truncated or changed file, or one that lies elsewhere.
    """
    if not is_complete(folder):
        lacks = "no manifest.json, so no complete artefact" if folder.is_dir() else "no such folder"
        raise DataError(f"{folder}: {lacks}; give one that `ghosttrack list` names")
    with whole(folder / "manifest.json"):
        manifest = read_json(folder / "manifest.json")
        if kind is not None and manifest["kind"] != kind:
            raise DataError(f"{folder}: is of kind {manifest['kind']!r}, expected {kind!r}")
        expected = artifact_id(manifest["identity"])
        if manifest["id"] != expected:
            raise DataError(
                f"{folder}/manifest.json: id {manifest['id']} does not match its identity"
                f" ({expected}); delete the folder to build it again"
            )
        root = folder.resolve()
        for name, facts in manifest["files"].items():
            if not (folder / name).resolve().is_relative_to(root):
                raise DataError(
                    f"{folder / name}: leads out of its artefact; nothing of it is read"
                )
            _check_file(folder / name, facts, verify=verify)
        return Artifact(folder, manifest["id"], manifest, built=False)


def record_checksum(file: Path, name: str) -> None:
    """Hash a finished file while the system has it in memory, so that committing need not read it.

    Files of a store are written by several processes over hours, and are larger than the memory.

    Args:
        file: Under the name that it has yet.
        name: The one that it will have, in the same folder.
    """
    line = json.dumps([name, *_stamp(file), sha256_file(file)]) + "\n"
    with (file.parent / CHECKSUMS).open("a", encoding="utf-8") as sums:
        sums.write(line)


def _stamp(file: Path) -> tuple[int, int]:
    facts = file.stat()
    return facts.st_size, facts.st_mtime_ns


def _recorded(folder: Path) -> dict[tuple[str, int, int], str]:
    """Take the checksums of a folder's files that have not changed since, and drop their record."""
    sums = folder / CHECKSUMS
    if not sums.is_file():
        return {}
    lines = sums.read_text(encoding="utf-8").splitlines(keepends=True)
    sums.unlink()
    rows = [json.loads(line) for line in lines if line.endswith("]\n")]  # a full disk cuts one
    return {(name, size, changed): digest for name, size, changed, digest in rows}


def _check_file(path: Path, facts: Mapping[str, Any], *, verify: bool) -> None:
    if not path.is_file():
        raise DataError(f"{path}: is missing; delete its artefact's folder to build it again")
    size = path.stat().st_size
    if size != facts["bytes"]:
        raise DataError(
            f"{path}: has {size} bytes, its manifest says {facts['bytes']};"
            " delete its artefact's folder to build it again"
        )
    if verify and (actual := sha256_file(path)) != facts["sha256"]:
        raise DataError(
            f"{path}: SHA-256 is {actual[:12]}..., its manifest says {facts['sha256'][:12]}...;"
            " delete its artefact's folder to build it again"
        )


def _commit(partial: Path, final: Path, facts: dict[str, Any], started: float) -> None:
    """Checksum, fsync, manifest, rename."""
    for left in [partial / "manifest.json", *partial.rglob(f".*{UNFINISHED}")]:  # by a kill
        left.unlink(missing_ok=True)
    files: dict[str, dict[str, object]] = {}
    recorded = _recorded(partial)
    for file in sorted(item for item in partial.rglob("*") if item.is_file()):
        fsync(file)
        files[file.relative_to(partial).as_posix()] = {
            "bytes": file.stat().st_size,
            "sha256": recorded.get((file.name, *_stamp(file))) or sha256_file(file),
        }
    manifest = {
        "id": artifact_id(facts["identity"]),
        **facts,
        "files": files,
        "seconds": round(time.monotonic() - started, 3),
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": _versions(),
        "git_commit": git_commit(),
    }
    write_json(partial / "manifest.json", manifest)
    fsync(partial)
    _owner_of(final).unlink(missing_ok=True)  # nobody takes the lock of what is complete
    partial.rename(final)
    fsync(final.parent)


class _Lock:
    """Hold the right to build one artefact; the kernel frees it when its owner dies.

    The owner's pid and host stand beside the lock for whoever waits.
    """

    def __init__(self, final: Path) -> None:
        self._lock = FileLock(final.with_name(f".{final.name}.lock"))
        self._owner = _owner_of(final)
        self._name = final.name

    def __enter__(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            owner = self._owner.read_text() if self._owner.is_file() else "another process"
            log.info("%s is being built by %s: waiting for it", self._name, owner)
            self._lock.acquire()
        self._owner.write_text(f"pid {os.getpid()} on {socket.gethostname()}")

    def __exit__(self, *_: object) -> None:
        self._owner.unlink(missing_ok=True)
        self._lock.release()


def _owner_of(final: Path) -> Path:
    return final.with_name(f".{final.name}.owner")


def _wait_for(final: Path, kind: str) -> Artifact:
    patience = Patience(str(final))
    while not is_complete(final):
        time.sleep(POLL_S)
        patience.look(_is_held(final) and object())  # who holds the lock may take any time
    return read(final, kind)


class Patience:
    """Ends a wait for other processes as soon as nothing has changed for long."""

    def __init__(self, waited_for: str) -> None:
        self.waited_for = waited_for
        self.state: object = None
        self.since = time.monotonic()

    def look(self, state: object) -> None:
        """Take what shows that others are at it.

        Raises:
            DataError: It has been the same for `PATIENCE_S`.
        """
        now = time.monotonic()
        if state != self.state:
            self.state, self.since = state, now
        elif now - self.since > PATIENCE_S:
            raise DataError(
                f"{self.waited_for}: nothing has changed there for {PATIENCE_S:.0f} s"
                " (GHOSTTRACK_PATIENCE_S): the process that was at it has ended; the same"
                " command goes on from the last complete point"
            )


def _is_held(final: Path) -> bool:
    """Tell whether the process is alive that builds an artefact, as far as this machine can."""
    said = ""
    with suppress(FileNotFoundError):
        said = _owner_of(final).read_text()
    match = OWNER.fullmatch(said)
    if match is None:
        return False
    return match[2] != socket.gethostname() or Path("/proc", match[1]).is_dir()


def _versions() -> dict[str, str]:
    names = ("torch", "transformers", "numpy", "scikit-learn", "safetensors")
    return {
        "ghosttrack": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names},
    }


def git_commit() -> str:
    """Commit of this source tree; empty outside a checkout."""
    result = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout.strip()
