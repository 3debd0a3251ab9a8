"""JSON, links and checksums of files, written so that readers never see half of one."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ghosttrack.errors import DataError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
UNWRITABLE = (*DISK_FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)
"""What a disk answers a writer, and the user can mend."""
UNFINISHED = ".tmp"
"""Ending of the hidden name of a file that is being filled."""
LAST = "last"
"""Link beside run folders, sweeps or resume points to the newest that is whole."""


@contextmanager
def telling_full(path: Path) -> Iterator[None]:
    """Let a disk that is full or refuses be told from other faults, whatever a library makes of it.

    Raises:
        OSError: With the disk's errno; in place of torch's or safetensors' own errors.
    """
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        cause: BaseException | None = error
        while cause is not None and getattr(cause, "errno", None) not in UNWRITABLE:
            cause = cause.__cause__ or cause.__context__
        said = [code for code in UNWRITABLE if os.strerror(code) in str(error)]
        code = getattr(cause, "errno", None) or next(iter(said), None)
        if code is None:
            raise
        raise OSError(code, os.strerror(code), str(path)) from error


def fsync(path: Path) -> None:
    """Have the disk hold a file, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: object) -> None:
    """Write a JSON file under a temporary name, then rename it: readers never see half of it."""
    temporary = path.with_name(f".{path.name}{UNFINISHED}")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON is whatever was written
    """Read a JSON file.

    Raises:
        DataError: It is not there or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error}); delete its folder to rebuild") from error


def in_bytes(n_bytes: int) -> str:
    """Say a size for people.

    >>> in_bytes(999), in_bytes(1_500), in_bytes(2_500_000_000)
    ('999 B', '1.5 kB', '2.5 GB')
    """
    size, units = float(n_bytes), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while size >= 1000 and unit != "TB":
        size, unit = size / 1000, next(units)
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def link_last(folder: Path) -> None:
    """Point the link `last` beside a folder at it; no reader meets a moment without the link."""
    temporary = folder.with_name(f".{LAST}-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder.name)
    temporary.replace(folder.with_name(LAST))


def sha256_file(path: Path) -> str:
    """Hash a file's content, in hex.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def hash_path(path: Path, files: Sequence[Path] | None = None) -> str:
    """Hash a file, or a folder's files with their names, by content and never by location.

    Args:
        path: The file or folder.
        files: Those of the folder that count, in this order; None: all.

    Raises:
        DataError: There is nothing at `path`, or a file cannot be read.
    """
    if path.is_file():
        return sha256_file(path)
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    digest = hashlib.sha256()
    if files is None:
        files = sorted(item for item in path.rglob("*") if item.is_file())
    for file in files:
        digest.update(f"{file.relative_to(path).as_posix()} {sha256_file(file)}\n".encode())
    return digest.hexdigest()
