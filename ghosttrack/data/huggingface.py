"""Documents of Hugging Face datasets: from disk, streamed from the hub, or from its cache.

Slow to import, as `datasets` is: import it where a dataset is opened. No code of a dataset runs.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

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

from ghosttrack.artifacts import hash_path
from ghosttrack.data.config import CorpusConfig
from ghosttrack.data.documents import BATCH_ROWS, Text, check_column, stripped
from ghosttrack.errors import MALFORMED, ConfigError, DataError, GhostTrackError, whole
from ghosttrack.models.hub import hub_host, is_hub_id, is_reachable

Rows = TypeVar("Rows", Dataset, IterableDataset)
COMMIT = re.compile(r"[0-9a-f]{40}")


def open_dataset(config: CorpusConfig) -> Text:
    """Find the dataset that `corpus.path` names.

    Raises:
        ConfigError: It is no folder and cannot be an id, or is one and has a setting of ids.
    """
    assert config.path is not None, config
    folder = Path(config.path).expanduser()
    if not folder.exists():
        if is_hub_id(config.path):
            return HubDataset(config)
        raise ConfigError(f"corpus.path={config.path}: no such folder, nor can it be a hub id")
    for field in ("subset", "revision"):
        if getattr(config, field) is not None:
            raise ConfigError(f"corpus.{field} is for hub ids and {folder} a folder; leave it null")
    return DiskDataset(folder, config)


class DiskDataset(Text):
    """The documents of a folder that `save_to_disk` made of a Dataset or a DatasetDict."""

    def __init__(self, folder: Path, config: CorpusConfig) -> None:
        self.folder = folder
        self.config = config

    @property
    def identity(self) -> dict[str, object]:
        """What determines the documents: the tables of the split, wherever they lie."""
        with whole(self.folder):
            files = [Path(file["filename"]) for file in self._dataset.cache_files]
            content = hash_path(files[0].parent, files)
        return {"sha256": content, "column": self.config.column}

    def documents(self) -> Iterator[str]:
        """Yield the documents, stripped.

        Raises:
            ConfigError: The folder holds no dataset, or not the split.
            DataError: There is no such column, or it holds no text.
        """
        return _documents(self._dataset, self.config)

    @cached_property
    def _dataset(self) -> Dataset:
        with _answered(
            f"corpus.path={self.folder} must be a folder that save_to_disk made, or set corpus=text"
        ):
            found = load_from_disk(str(self.folder))
        return found if isinstance(found, Dataset) else _split(found, self.config)


class HubDataset(Text):
    """The documents of a dataset on the hub.

    Where the hub can be reached it is asked for the commit, and the documents are streamed;
    otherwise both come from what `load_dataset` left in its cache.
    """

    def __init__(self, config: CorpusConfig) -> None:
        self.name = str(config.path)
        self.config = config
        self.asked = (
            f"corpus.path={self.name}, corpus.subset={config.subset},"
            f" corpus.revision={config.revision}"
        )

    @property
    def identity(self) -> dict[str, object]:
        """What determines the documents; a `corpus.revision` that is a commit asks nobody."""
        revision = self.config.revision or ""
        return {
            "id": self.name,
            "subset": self.config.subset,
            "split": self.config.split,
            "column": self.config.column,
            "commit": revision if COMMIT.fullmatch(revision) else self._builder.hash,
        }

    def documents(self) -> Iterator[str]:
        """Yield the documents, stripped.

        Raises:
            ConfigError: There is no such dataset, subset or split, or it cannot be had.
            DataError: There is no such column, it holds no text, or the connection broke.
        """
        with _answered(self.asked):
            splits = cast("dict[str, IterableDataset]", self._builder.as_streaming_dataset())
        return _documents(_split(splits, self.config), self.config)

    @cached_property
    def _builder(self) -> DatasetBuilder:
        """Knows the splits; its `hash` is the commit."""
        revision = self.config.revision
        if datasets.config.HF_HUB_OFFLINE or not is_reachable():
            builder = self._cached()
        else:
            with _answered(self.asked):
                builder = load_dataset_builder(self.name, self.config.subset, revision=revision)
        # Of a hub that does not answer `datasets` takes what it has, too.
        if isinstance(builder, Cache) and not str(builder.hash).startswith(revision or ""):
            raise ConfigError(f"{self.asked}: the cache has commit {builder.hash} of it")
        return builder

    def _cached(self) -> DatasetBuilder:
        advice = (
            f"{self.asked}: {hub_host()} cannot be reached; point corpus.path at a folder made by"
            " save_to_disk, or load it where there is a network and copy its cache (HF_HOME);"
            " HF_HUB_OFFLINE must not be 1 for a download"
        )
        with _answered(advice):
            return Cache(
                repo_id=self.name,
                dataset_name=self.name.split("/")[-1],
                config_name=self.config.subset,
                version="auto",
                hash="auto",
            )


def _split(splits: Mapping[Any, Rows], config: CorpusConfig) -> Rows:
    if config.split in splits:
        return splits[config.split]
    raise ConfigError(f"corpus.split={config.split} must be among {list(splits)} of {config.path}")


def _documents(dataset: Dataset | IterableDataset, config: CorpusConfig) -> Iterator[str]:
    where = f"corpus.path={config.path}"
    return stripped(_texts(dataset, str(config.column), where), where)


def _texts(dataset: Dataset | IterableDataset, column: str, where: str) -> Iterator[str]:
    with _answered(where, DataError):
        tables = cast("Iterator[pa.Table]", dataset.with_format("arrow").iter(BATCH_ROWS))
        for table in tables:
            check_column(table.schema, column, where)
            yield from (text or "" for text in table.column(column).to_pylist())


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
