"""Read an offline W&B run back from its `.wandb` file.

The file is a log in LevelDB's framing: after a 7-byte head, blocks of 32 KiB hold chunks of
checksum (4 bytes), length (2) and kind (1: a whole record, 2, 3, 4: its first, middle, last part).
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from wandb.proto.wandb_internal_pb2 import (
    Record,  # pyright: ignore[reportAttributeAccessIssue] (made at import)
)

from ghosttrack.artifacts import KINDS

FILE_HEAD, CHUNK_HEAD, BLOCK = 7, 7, 2**15
WHOLE, LAST = 1, 4


class Lineage(NamedTuple):
    """An artefact that a run made."""

    kind: str
    name: str
    address: str


@dataclass
class OfflineRun:
    """What a run logged, in order."""

    run_id: str = ""
    job_type: str = ""
    group: str = ""
    tags: tuple[str, ...] = ()
    config: dict[str, object] = field(default_factory=dict)
    history: list[dict[str, object]] = field(default_factory=list)
    lineage: list[Lineage] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)
    """Metrics that are not drawn unless asked for."""
    exit_code: int | None = None
    """None where the run was not finished."""

    @property
    def panels(self) -> set[str]:
        """What W&B draws by itself: one panel for each key of the history that is not hidden.

        Keys with a `_` before them are W&B's own; the machine's usage has a section to itself.
        """
        keys = {key for row in self.history for key in row if not key.startswith("_")}
        return {key.removesuffix("_table") for key in keys - self.hidden}

    def series(self, key: str) -> list[object]:
        """All values of one key."""
        return [row[key] for row in self.history if key in row]


def records(path: Path) -> Iterator[Record]:
    """Yield the file's records; one that is cut off at the end, as of a live run, is none."""
    data, at, parts = path.read_bytes(), FILE_HEAD, b""
    while at + CHUNK_HEAD <= len(data):
        if BLOCK - at % BLOCK < CHUNK_HEAD:  # too little of the block is left for a chunk
            at += BLOCK - at % BLOCK
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        at += CHUNK_HEAD
        if at + length > len(data):
            return
        parts += data[at : at + length]
        at += length
        if kind in (WHOLE, LAST):
            yield Record.FromString(parts)
            parts = b""


def read_run(path: Path) -> OfflineRun:
    """Collect a run's settings and history."""
    run = OfflineRun()
    for record in records(path):
        kind = record.WhichOneof("record_type")
        _take(run, kind, getattr(record, kind))
    return run


def _take(run: OfflineRun, kind: str, one: Any) -> None:
    """Add one record to what is known of a run."""
    match kind:
        case "run":
            run.run_id, run.job_type, run.group = one.run_id, one.job_type, one.run_group
            run.tags = tuple(one.tags)
            run.config |= _values(one.config.update)
        case "config":
            run.config |= _values(one.update)
        case "history":
            run.history.append(_values(one.item))
        case "metric" if one.options.hidden:
            run.hidden.add(one.name)
        case "artifact" if one.type in KINDS:
            run.lineage.append(_lineage(one))
        case "exit":
            run.exit_code = one.exit_code
        case _:
            pass


def _values(items: Iterable[Any]) -> dict[str, Any]:
    """Read keys and values; those of a table or picture stand under its key."""
    found: dict[str, Any] = {}
    for one in items:
        *keys, last = list(getattr(one, "nested_key", ())) or [one.key]
        place = found
        for key in keys:
            place = place.setdefault(key, {})
        place[last] = json.loads(one.value_json)
    return found


def _lineage(artifact: Any) -> Lineage:
    (entry,) = artifact.manifest.contents
    assert entry.ref == f"ghosttrack:{artifact.name}"
    return Lineage(artifact.type, artifact.name, json.loads(artifact.metadata)["address"])
