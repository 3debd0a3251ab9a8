"""Documents of unlabelled text, read from files one at a time."""

import io
import json
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from ghosttrack.data.config import BadFiles
from ghosttrack.errors import ConfigError, DataError
from ghosttrack.files import hash_path

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
BUFFER_BYTES = 2**16
SUFFIXES = (
    *(f"{text}{compression}" for text in (".txt", ".jsonl") for compression in ("", *COMPRESSIONS)),
    *(f".json{compression}" for compression in COMPRESSIONS),  # C4's; a .json alone may be anything
    ".parquet",
)
END_OF_TEXT = "<|endoftext|>"
TITLE = re.compile(r"\s*= [^=]+ =\s*")
"""An article's heading in WikiText; sections have more `=`."""
SNIFF_LINES = 10_000
BATCH_ROWS = 128
"""Rows of a table that are in memory at a time."""

log = logging.getLogger(__name__)


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


def json_rows(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield ("file:line", object) of every line of JSON Lines that is not blank.

    Raises:
        DataError: A line is no JSON object; says which.
    """
    for number, line in lines(path):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        row = parsed(line, where, "write one object a line")
        if not isinstance(row, dict):
            raise DataError(f"{where}: not a JSON object; write one object a line")
        yield where, row


def parsed(text: str, where: str, instead: str) -> Any:  # noqa: ANN401 - JSON is what was written
    """Read JSON that somebody wrote.

    Raises:
        DataError: It is none, too deep, or holds half of a character; names the place.
    """
    try:
        value = json.loads(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise DataError(f"{where}: {half!r} is half of a character; write it whole") from error
    except (ValueError, RecursionError) as error:
        reason = str(error).split(": line")[0]
        raise DataError(f"{where}: not JSON ({reason}); {instead}") from error
    return value


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


class Text(ABC):
    """Documents of unlabelled text."""

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, object]:
        """What determines the documents, wherever they lie."""

    @abstractmethod
    def documents(self) -> Iterator[str]:
        """Yield the documents, stripped, reading hardly further than they are asked for."""


@dataclass(frozen=True)
class TextFiles(Text):
    """Documents of a text file, or of all files of a folder and the folders below it, sorted.

    A .parquet file holds a document a row and a .jsonl (.json.gz, .json.zst) file one a line, in
    `column`; null is none.
    A .txt file's first lines decide, in this order: where one is `<|endoftext|>`, such lines part
    documents; where the first that is not blank is a heading ` = Title = ` (WikiText), every such
    heading begins one; else every line is a document. Blank lines alone never are. Each of .txt and
    .jsonl may end in .gz or .zst besides; hidden files and others are left alone.
    """

    path: Path
    column: str
    bad_files: BadFiles

    @property
    def identity(self) -> dict[str, str]:
        """What determines the documents; a file's name counts within its folder only."""
        return {
            "sha256": hash_path(self.path, self._files()),
            "suffix": "" if self.path.is_dir() else _suffix(self.path),
            "column": self.column,
            "bad_files": self.bad_files.name,
        }

    def documents(self) -> Iterator[str]:
        """Yield the documents, stripped.

        Raises:
            ConfigError: `corpus.path` is not there, or holds no such file.
            DataError: A file is bad (`corpus.bad_files`), or none holds text; names the place.
        """
        empty = True
        for file in self._files():
            try:
                for document in stripped(_documents(file, self.column), str(file)):
                    empty = False
                    yield document
            except DataError as error:
                if self.bad_files is BadFiles.refuse:
                    raise DataError(f"{error}, or set corpus.bad_files=skip") from error
                log.warning("%s: no more of it is read (corpus.bad_files=skip)", error)
        if empty:
            raise DataError(f"{self.path}: holds no text but what corpus.bad_files=skip left out")

    def _files(self) -> list[Path]:
        if self.path.is_dir():
            found = sorted(item for item in self.path.rglob("*") if item.is_file())
            files = [item for item in found if "/." not in f"/{item.relative_to(self.path)}"]
        else:
            files = [self.path] if self.path.is_file() else []
        if kept := [item for item in files if _suffix(item)]:
            return kept
        raise ConfigError(
            f"corpus.path={self.path} must be a file that ends in {', '.join(SUFFIXES)},"
            " or a folder of those"
        )


def stripped(documents: Iterable[str], where: str) -> Iterator[str]:
    """Yield documents without the blanks around them.

    Raises:
        DataError: All are blank.
    """
    empty = True
    for document in documents:
        if text := document.strip():
            empty = False
            yield text
    if empty:
        raise DataError(f"{where}: holds no text; give it some or remove it")


def check_column(schema: pa.Schema, column: str, where: str) -> None:
    """Make sure that a table has a column of text.

    Raises:
        DataError: It has not; says which columns there are.
    """
    place = schema.get_field_index(column)  # -1 also where two are so called
    if place < 0 or not _is_text(schema.field(place).type):
        raise _no_text(where, column, {one.name: _kind(one.type) for one in schema})


def _suffix(path: Path) -> str:
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")


def _documents(path: Path, column: str) -> Iterator[str]:
    suffix = _suffix(path)
    if suffix == ".parquet":
        return _parquet_documents(path, column)
    return _txt_documents(path) if suffix.startswith(".txt") else _jsonl_documents(path, column)


def _txt_documents(path: Path) -> Iterator[str]:
    head = list(_head(path))
    first = next((line for line in head if line.strip()), "")
    if END_OF_TEXT in (line.strip() for line in head):
        return _parted(path, lambda line: line.strip() == END_OF_TEXT, keep=False)
    if TITLE.fullmatch(first):
        return _parted(path, lambda line: TITLE.fullmatch(line) is not None, keep=True)
    return (line for _, line in lines(path))


def _head(path: Path) -> Iterator[str]:
    """Yield the first lines, up to a bad one: what comes before it counts."""
    with suppress(DataError):
        yield from (line for _, line in islice(lines(path), SNIFF_LINES))


def _parted(path: Path, parts: Callable[[str], bool], *, keep: bool) -> Iterator[str]:
    """Yield what stands between the lines that part documents; `keep`: they begin one."""
    document: list[str] = []
    for _, line in lines(path):
        if parts(line):
            yield "\n".join(document)
            document = [line] if keep else []
        else:
            document.append(line)
    yield "\n".join(document)


def _jsonl_documents(path: Path, column: str) -> Iterator[str]:
    for where, row in json_rows(path):
        text = row.get(column, 0)
        if text is None:
            continue
        if not isinstance(text, str):
            raise _no_text(where, column, {name: _kind(value) for name, value in row.items()})
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{where}: not Unicode ({error.reason}); mend the escape") from error
        yield text


def _parquet_documents(path: Path, column: str) -> Iterator[str]:
    row = 0
    try:
        with pq.ParquetFile(path, buffer_size=BUFFER_BYTES) as file:
            check_column(file.schema_arrow, column, str(path))
            for batch in file.iter_batches(BATCH_ROWS, columns=[column]):
                yield from (text or "" for text in batch.column(0).to_pylist())
                row += len(batch)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: broken after {row} rows ({reason}); write it anew") from error


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return any(
        test(kind)
        for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    )


def _kind(held: object) -> str:
    """Say what a column of a table, or a value of a row, is; nothing of a text."""
    if isinstance(held, pa.DataType):
        return "" if _is_text(held) else str(held)
    kinds = {str: "", dict: "object", list: "list", bool: "boolean", type(None): "null"}
    return kinds.get(type(held), "number")


def _no_text(where: str, column: str, kinds: Mapping[str, str]) -> DataError:
    texts = [name for name, kind in kinds.items() if not kind]
    others = [f"{name} ({kind})" for name, kind in kinds.items() if kind]
    cure = f"set corpus.column to one of {texts}" if texts else "no column holds text"
    besides = f"; not text: {', '.join(others)}" if others else ""
    return DataError(f"{where}: no text in {column!r}; {cure}{besides}")
