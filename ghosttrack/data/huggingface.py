"""Tables of Hugging Face datasets: from disk, streamed from the hub, or from its cache.

Slow to import, as `datasets` is: import it where a dataset is opened. No code of a dataset runs.
"""

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import datasets.config
import pyarrow as pa
from datasets import (
    Dataset,
    DatasetBuilder,
    IterableDataset,
    load_dataset_builder,
    load_from_disk,
)
from datasets.exceptions import DatasetsError
from datasets.packaged_modules.cache.cache import Cache

from ghosttrack.data.config import DatasetText
from ghosttrack.data.documents import BATCH_ROWS, Text, check_column, stripped
from ghosttrack.errors import MALFORMED, ConfigError, DataError, GhostTrackError, whole
from ghosttrack.files import hash_path, read_json
from ghosttrack.models.hub import hub_host, is_hub_id, is_reachable

Rows = TypeVar("Rows", Dataset, IterableDataset)
COMMIT = re.compile(r"[0-9a-f]{40}")


class Named(NamedTuple):
    """Which dataset is meant, by the settings of one group."""

    group: str
    """Of settings: `corpus` or `questions`."""
    path: str
    subset: str | None
    split: str | None
    revision: str | None
    instead: str
    """What a folder that is no dataset may be as well."""

    def __str__(self) -> str:
        return f"{self.group}.path={self.path}"


class Tables(ABC):
    """A dataset as tables of its rows."""

    named: Named

    @property
    @abstractmethod
    def identity(self) -> dict[str, object]:
        """What determines the rows, wherever they lie."""

    @abstractmethod
    def _rows(self) -> Dataset | IterableDataset: ...

    def tables(self) -> Iterator[pa.Table]:
        """Yield the rows, some at a time.

        Raises:
            ConfigError: There is no such dataset, subset or split, or it cannot be had.
            DataError: It is broken, or the connection broke.
        """
        return self._read(self._rows().with_format("arrow"))

    def _read(self, rows: Dataset | IterableDataset) -> Iterator[pa.Table]:
        with _answered(str(self.named), DataError):
            yield from cast("Iterator[pa.Table]", rows.iter(BATCH_ROWS))


def open_tables(named: Named) -> Tables:
    """Find the dataset that a setting names.

    Raises:
        ConfigError: It is no folder and cannot be an id, or is one and has a setting of ids.
    """
    folder = Path(named.path).expanduser()
    if not folder.exists():
        if is_hub_id(named.path):
            return HubDataset(named)
        raise ConfigError(f"{named}: no such folder, nor can it be a hub id")
    for field in ("subset", "revision"):
        if getattr(named, field) is not None:
            raise ConfigError(
                f"{named.group}.{field} is for hub ids and {folder} a folder; leave it null"
            )
    return DiskDataset(folder, named)


def open_dataset(config: DatasetText) -> Text:
    """Find the dataset that `corpus.path` names.

    Raises:
        ConfigError: It is no folder and cannot be an id, or is one and has a setting of ids.
    """
    asked = (config.path, config.subset, config.split, config.revision)
    named = Named("corpus", *asked, instead="set corpus=text")
    return Documents(open_tables(named), config.column)


class Documents(Text):
    """The documents that stand in one column of a dataset."""

    def __init__(self, found: Tables, column: str) -> None:
        self.found = found
        self.column = column

    @property
    def identity(self) -> dict[str, object]:
        """What determines the documents."""
        return {**self.found.identity, "column": self.column}

    def documents(self) -> Iterator[str]:
        """Yield the documents, stripped.

        Raises:
            ConfigError: The dataset cannot be had.
            DataError: There is no such column, it holds no text, or the connection broke.
        """
        return stripped(self._texts(self.found.tables()), str(self.found.named))

    def _texts(self, tables: Iterator[pa.Table]) -> Iterator[str]:
        for table in tables:
            check_column(table.schema, self.column, str(self.found.named))
            yield from (text or "" for text in table.column(self.column).to_pylist())


class DiskDataset(Tables):
    """A folder that `save_to_disk` made of a Dataset or a DatasetDict."""

    def __init__(self, folder: Path, named: Named) -> None:
        self.folder = folder
        self.named = named

    @property
    def identity(self) -> dict[str, object]:
        """What determines the rows: the tables of the split, wherever they lie."""
        with whole(self.folder):
            files = [Path(file["filename"]) for file in self._dataset.cache_files]
            return {"sha256": hash_path(files[0].parent, files)}

    def _rows(self) -> Dataset:
        return self._dataset

    @cached_property
    def _dataset(self) -> Dataset:
        asked = f"{self.named.group}.path={self.folder}"
        for state in self.folder.rglob("state.json"):
            with whole(state):
                if not read_json(state)["_data_files"]:
                    raise DataError(f"{asked}: {state.parent} holds no rows; write it with some")
        with _answered(f"{asked} must be a folder that save_to_disk made, or {self.named.instead}"):
            found = load_from_disk(str(self.folder))
        return found if isinstance(found, Dataset) else _split(found, self.named)


class HubDataset(Tables):
    """A dataset on the hub.

    Where the hub can be reached it is asked for the commit, and the rows are streamed; otherwise
    both come from what `load_dataset` left in its cache.
    """

    def __init__(self, named: Named) -> None:
        self.named = named
        group = named.group
        self.asked = f"{named}, {group}.subset={named.subset}, {group}.revision={named.revision}"

    @property
    def identity(self) -> dict[str, object]:
        """What determines the rows; a `revision` that is a commit asks nobody."""
        revision = self.named.revision or ""
        return {
            "id": self.named.path,
            "subset": self.named.subset,
            "split": self.named.split,
            "commit": revision if COMMIT.fullmatch(revision) else self._builder.hash,
        }

    def _rows(self) -> IterableDataset:
        with _answered(self.asked):
            splits = cast("dict[str, IterableDataset]", self._builder.as_streaming_dataset())
        return _split(splits, self.named)

    @cached_property
    def _builder(self) -> DatasetBuilder:
        """Knows the splits; its `hash` is the commit."""
        name, subset, revision = self.named.path, self.named.subset, self.named.revision
        if datasets.config.HF_HUB_OFFLINE or not is_reachable():
            builder = self._cached()
        else:
            with _answered(self.asked):
                builder = load_dataset_builder(name, subset, revision=revision)
        # Of a hub that does not answer `datasets` takes what it has, too.
        if isinstance(builder, Cache) and not str(builder.hash).startswith(revision or ""):
            raise ConfigError(f"{self.asked}: the cache has commit {builder.hash} of it")
        return builder

    def _cached(self) -> DatasetBuilder:
        advice = (
            f"{self.asked}: {hub_host()} cannot be reached; point {self.named.group}.path at a"
            " folder made by save_to_disk, or load it where there is a network and copy its cache"
            " (HF_HOME); HF_HUB_OFFLINE must not be 1 for a download"
        )
        with _answered(advice):
            return Cache(
                repo_id=self.named.path,
                dataset_name=self.named.path.split("/")[-1],
                config_name=self.named.subset,
                version="auto",
                hash="auto",
            )


def _split(splits: Mapping[Any, Rows], named: Named) -> Rows:
    if named.split in splits:
        return splits[named.split]
    raise ConfigError(
        f"{named.group}.split={named.split} must be among {list(splits)} of {named.path}"
    )


@contextmanager
def _answered(asked: str, kind: type[GhostTrackError] = ConfigError) -> Iterator[None]:
    """Keep `datasets` from talking, and give what it raises as one line."""
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    except GhostTrackError:
        raise
    except (*MALFORMED, OSError, DatasetsError) as error:
        said = " ".join(str(error).split("\nExample")[0].split())
        raise kind(f"{asked}: {said}") from error
