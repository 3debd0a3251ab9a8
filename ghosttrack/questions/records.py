"""Rows of a question set as they lie in files or datasets, each with the place where it stands."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ghosttrack.data.documents import BATCH_ROWS, BUFFER_BYTES, json_rows, lines
from ghosttrack.errors import ConfigError, DataError
from ghosttrack.files import sha256_file
from ghosttrack.questions.config import FileQuestions, PublishedQuestions

JSON_SUFFIXES = (".jsonl", ".json", ".ndjson")
SUFFIXES = ".jsonl, .ndjson, .json, .csv or .parquet"

Row = Mapping[str, object]


class Rows(NamedTuple):
    """The rows of a set, and what determines them wherever they lie."""

    rows: Iterable[tuple[str, Row]]
    """Place and columns of each, as `_named` names them."""
    identity: Mapping[str, object]


def read_rows(config: FileQuestions) -> Rows:
    """Open the file, folder or dataset that `questions.path` names.

    Raises:
        ConfigError: It is nothing of that kind, or a dataset cannot be had.
    """
    path = Path(config.path).expanduser()
    if path.is_dir() or (isinstance(config, PublishedQuestions) and not path.exists()):
        return _dataset_rows(config, config.path, is_folder=path.is_dir())
    if not path.is_file():
        raise ConfigError(f"questions.path={path} is not a file; give a {SUFFIXES} file")
    return Rows(_named(file_rows(path)), {"sha256": sha256_file(path)})


def _dataset_rows(config: FileQuestions, path: str, *, is_folder: bool) -> Rows:
    from ghosttrack.data.huggingface import Named, open_tables  # takes a second

    subset = revision = None
    if isinstance(config, PublishedQuestions):
        revision = config.revision
        subset = None if is_folder else config.subset  # options name that of the hub
    asked = (path, subset, config.split, revision)
    found = open_tables(Named("questions", *asked, instead=f"a {SUFFIXES} file"))
    return Rows(_named(_table_rows(found.tables(), str(found.named))), found.identity)


def file_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield (place, columns) of every row of a file, as they are written.

    Raises:
        ConfigError: Its name ends in none of `SUFFIXES`.
        DataError: A row is malformed; names the place.
    """
    suffix = path.suffix.lower()
    if suffix in JSON_SUFFIXES:
        return json_rows(path)
    if suffix == ".csv":
        return _csv_rows(path)
    if suffix == ".parquet":
        return _table_rows(_parquet_tables(path), str(path))
    raise ConfigError(f"questions.path={path} must end in {SUFFIXES}")


def _named(rows: Iterable[tuple[str, Row]]) -> Iterator[tuple[str, Row]]:
    """Keep columns that hold something, lower-case and with `_` for blanks; drop empty rows.

    A field of an object becomes a column as well: `answer.value`.
    """
    for where, row in rows:
        kept: dict[str, object] = {}
        for name, value in row.items():
            column = re.sub(r"\s+", "_", name.strip().lower())
            inner = value.items() if isinstance(value, dict) else ()
            fields = {column: value, **{f"{column}.{key}": field for key, field in inner}}
            kept |= {key: field for key, field in fields.items() if field not in (None, "", [])}
        if kept:
            yield where, kept


def check_header(where: str, names: Iterable[str]) -> None:
    """Refuse a table in which two columns have one name: either would be dropped.

    Raises:
        DataError: A name stands twice.
    """
    twice = [name for name, n in Counter(filter(None, names)).items() if n > 1]
    if twice:
        raise DataError(f"{where}: more than one column is named {', '.join(twice)}; keep one")


def _csv_rows(path: Path) -> Iterator[tuple[str, Row]]:
    reader = csv.reader((line + "\n" for _, line in lines(path)), strict=True)
    number = 1  # of the line at which the row starts: a quoted cell may span several
    header: list[str] = []
    try:
        for cells in reader:
            where = f"{path}:{number}"
            if not header:
                header = cells
                check_header(where, [re.sub(r"\s+", "_", name.strip().lower()) for name in cells])
            elif cells and len(cells) != len(header):
                raise DataError(f"{where}: {len(cells)} cells where the header has {len(header)}")
            elif cells:
                yield where, dict(zip(header, (cell.strip() for cell in cells), strict=True))
            number = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{number}: not CSV ({error})") from error


def _parquet_tables(path: Path) -> Iterator[pa.Table]:
    try:
        with pq.ParquetFile(path, buffer_size=BUFFER_BYTES) as file:
            check_header(str(path), file.schema_arrow.names)
            for batch in file.iter_batches(BATCH_ROWS):
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: cannot be read as Parquet ({reason}); write it anew") from error


def _table_rows(tables: Iterable[pa.Table], where: str) -> Iterator[tuple[str, Row]]:
    number = 0
    for table in tables:
        for row in table.to_pylist():
            yield f"{where}, row {number}", row
            number += 1
