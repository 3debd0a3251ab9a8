"""Text files read line by line, plain or compressed, with errors that say where."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from ghosttrack.errors import DataError

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
BUFFER_BYTES = 2**16


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line without its break) of a UTF-8 file; a byte-order mark is dropped.

    What ends in .gz or .zst is decompressed as it is read.

    Raises:
        DataError: The file cannot be opened or decompressed, or a line is not UTF-8; says which.
    """
    number = 0
    try:
        with _opened(path) as file:
            for number, raw in enumerate(file, start=1):
                yield number, _decoded(raw, path, number).rstrip("\r\n")
    except OSError as error:
        where = f"{path}:{number + 1}" if number else path
        # Arrow's own errors carry no strerror.
        reason = error.strerror or f"cannot be decompressed ({error}); compress it anew"
        raise DataError(f"{where}: {reason}") from error


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as file:
        compression = COMPRESSIONS.get(path.suffix.lower())
        if compression is None:
            yield file
            return
        with pa.CompressedInputStream(file, compression) as stream:
            yield io.BufferedReader(cast("io.RawIOBase", stream), BUFFER_BYTES)


def _decoded(raw: bytes, path: Path, number: int) -> str:
    try:
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        byte = raw[error.start]
    else:
        if "\0" not in text:
            return text
        byte = 0  # UTF-16 of plain English is UTF-8 with these in between
    raise DataError(f"{path}:{number}: not UTF-8 (byte {byte:#04x}); save the file as UTF-8")
