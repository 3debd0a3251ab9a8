"""Text files read line by line, with errors that say where."""

from collections.abc import Iterator
from pathlib import Path

from ghosttrack.errors import DataError


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line without its break) of a UTF-8 file; a byte-order mark is dropped.

    Raises:
        DataError: The file cannot be opened, or a line is not UTF-8; says which line.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    with file:
        for number, raw in enumerate(file, start=1):
            encoding = "utf-8-sig" if number == 1 else "utf-8"
            try:
                yield number, raw.decode(encoding).rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}:{number}: not UTF-8 (byte {raw[error.start]:#04x});"
                    " save the file as UTF-8"
                ) from error
