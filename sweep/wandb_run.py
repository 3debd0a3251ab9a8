"""Read an offline W&B run back from its `.wandb` file.

The file is a log in LevelDB's framing: after a 7-byte head, blocks of 32 KiB hold chunks of
checksum (4 bytes), length (2) and kind (1: a whole record, 2, 3, 4: its first, middle, last part).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from wandb.proto.wandb_internal_pb2 import (
    Record,  # pyright: ignore[reportAttributeAccessIssue] (made at import)
)

FILE_HEAD, CHUNK_HEAD, BLOCK = 7, 7, 2**15
WHOLE, LAST = 1, 4


class OfflineRun(NamedTuple):
    """What a run logged, in order."""

    run_id: str
    job_type: str
    config: dict[str, object]
    history: list[dict[str, object]]
    system: list[dict[str, float]]
    """What W&B measures by itself, such as `proc.memory.rssMB` and `gpu.0.memory`."""
    exit_code: int | None
    """None where the run was not finished."""

    def series(self, key: str) -> list[object]:
        """All values of one key."""
        return [row[key] for row in self.history if key in row]


def records(path: Path) -> Iterator[Record]:
    """Yield the file's records."""
    data, at, parts = path.read_bytes(), FILE_HEAD, b""
    while at + CHUNK_HEAD <= len(data):
        if BLOCK - at % BLOCK < CHUNK_HEAD:  # too little of the block is left for a chunk
            at += BLOCK - at % BLOCK
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        at += CHUNK_HEAD
        parts += data[at : at + length]
        at += length
        if kind in (WHOLE, LAST):
            yield Record.FromString(parts)
            parts = b""


def read_run(path: Path) -> OfflineRun:
    """Collect a run's settings and history."""
    run_id, job_type, config, history, system, exit_code = "", "", {}, [], [], None
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run_id, job_type = record.run.run_id, record.run.job_type
            config |= {one.key: json.loads(one.value_json) for one in record.run.config.update}
        elif kind == "config":
            config |= {one.key: json.loads(one.value_json) for one in record.config.update}
        elif kind == "history":
            keys = ((one.key or "/".join(one.nested_key), one) for one in record.history.item)
            history.append({key: json.loads(one.value_json) for key, one in keys})
        elif kind == "stats":
            system.append({one.key: json.loads(one.value_json) for one in record.stats.item})
        elif kind == "exit":
            exit_code = record.exit.exit_code
    return OfflineRun(run_id, job_type, config, history, system, exit_code)
