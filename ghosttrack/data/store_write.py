"""A model's activations over a corpus, written as a store."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int32, Int64

from ghosttrack.artifacts import POLL_S
from ghosttrack.data.config import StoreConfig, StoreDtype
from ghosttrack.data.corpora import CorpusWindows
from ghosttrack.data.forward import Extractor
from ghosttrack.data.progress import Meter
from ghosttrack.data.shards import UNFINISHED, Layout, ShardFile, clear_unfinished
from ghosttrack.data.source import prefetch
from ghosttrack.data.store import (
    ERRORS,
    INDEX,
    PARTS,
    Loss,
    ShardFacts,
    check_room,
    disk_bytes,
    hook_names,
    put_rows,
    rows_layout,
    write_facts,
)
from ghosttrack.data.windows import StoredWindows, Windows
from ghosttrack.processes import ALONE, Place


class Shard(NamedTuple):
    """One file of a store: a fixed set of windows."""

    part: str
    name: str
    windows: Int64[np.ndarray, " window"]
    """By length in ascending order."""
    n_rows: int


def plan(part: str, windows: StoredWindows, shard_tokens: int) -> list[Shard]:
    """Deal a part's windows to shards of about `shard_tokens` kept tokens."""
    kept = windows.kept
    shard_of = (kept.cumsum() - kept) // shard_tokens
    shards = []
    for index in range(int(shard_of[-1]) + 1):
        first, last = np.searchsorted(shard_of, [index, index + 1])
        chosen = first + np.argsort(windows.lengths[first:last], kind="stable")
        if len(chosen):
            name = f"{part}-{len(shards):05d}.safetensors"
            shards.append(Shard(part, name, chosen, int(kept[chosen].sum())))
    return shards


def write_store(
    folder: Path,
    extractor: Extractor,
    corpus: CorpusWindows,
    store: StoreConfig,
    place: Place = ALONE,
) -> None:
    """Write the activations of a corpus, going on after the last complete shard in `folder`.

    Each shard holds `layer_<l>` [tokens d_model] and the `INDEX`; `store.json` lists the shards. A
    shard's content does not depend on when or by which process it was written, nor beyond rounding
    on the extractor's batch size.

    Args:
        folder: Of the store, the same for all processes.
        extractor: Runs the model, as `store` asks.
        corpus: The windows.
        store: Number format, positions that are left out, and size of a shard.
        place: Which of several processes this is; each writes its share of the shards, and the
            first one waits for the others'.

    Raises:
        ConfigError: The disk has no room, or the device no memory for one window.
        DataError: An activation is not a finite number.
    """
    plans = [
        (windows, shard)
        for part, windows in zip(PARTS, corpus, strict=True)
        for shard in plan(part, windows, store.shard_tokens)
    ]
    _write_missing(folder, extractor, plans, store, place)
    if place.rank == 0:
        shards = [ShardFacts(shard.name, shard.part, shard.n_rows) for _, shard in plans]
        while not all((folder / shard.file).is_file() for shard in shards):
            time.sleep(POLL_S)
        for stale in folder.glob(f".*{UNFINISHED}"):
            stale.unlink()  # of another machine's dead process
        hooks = hook_names(extractor.layers)
        write_facts(folder, hooks, extractor.lm.d_model, store.dtype, shards)


def _check_room(
    folder: Path, extractor: Extractor, missing: Sequence[Shard], store: StoreConfig
) -> None:
    """Refuse what does not fit, all processes' shards together."""
    n_tokens = sum(shard.n_rows for shard in missing)
    needed = disk_bytes(n_tokens, len(extractor.layers), extractor.lm.d_model, store.dtype)
    check_room(folder, needed - clear_unfinished(folder), store)


def _write_missing(
    folder: Path,
    extractor: Extractor,
    plans: Sequence[tuple[StoredWindows, Shard]],
    store: StoreConfig,
    place: Place,
) -> None:
    """Write this process' shards that are not there; one is closed while the next is filled."""
    try:
        present = set(os.listdir(folder))  # noqa: PTH208 - one look, not one per shard
    except FileNotFoundError:
        return  # nothing was missing, and the first process has committed the store
    _check_room(folder, extractor, [one for _, one in plans if one.name not in present], store)
    mine = plans[place.rank :: place.world_size]
    missing = [(windows, shard) for windows, shard in mine if shard.name not in present]
    n_tokens, n_missing = (sum(shard.n_rows for _, shard in some) for some in (mine, missing))
    token_bytes = disk_bytes(1, len(extractor.layers), extractor.lm.d_model, store.dtype)
    title = "extracting activations"
    if place.world_size > 1:
        title += f" (process {place.rank + 1} of {place.world_size})"
    with (
        Meter(title, n_tokens, n_tokens - n_missing, token_bytes) as progress,
        ThreadPoolExecutor(1) as closer,
    ):
        closed: Future[None] | None = None
        for windows, shard in missing:
            file = ShardFile(folder / shard.name, _layout(extractor, shard, store), closer)
            _fill(file, extractor, windows.read(shard.windows), store, progress)
            if closed is not None:
                closed.result()
            closed = file.closed
        if closed is not None:
            closed.result()


def _layout(extractor: Extractor, shard: Shard, store: StoreConfig) -> Layout:
    hooks = hook_names(extractor.layers)
    layout = dict(rows_layout(hooks, shard.n_rows, extractor.lm.d_model, store.dtype))
    layout |= {name: (torch.int32, (shard.n_rows,)) for name in INDEX}
    if store.dtype is StoreDtype.int8:
        layout[ERRORS] = (torch.float32, (len(hooks), 2 + extractor.lm.d_model))
    return layout


def _fill(
    file: ShardFile,
    extractor: Extractor,
    windows: Windows,
    store: StoreConfig,
    progress: Meter,
) -> None:
    hooks, row = hook_names(extractor.layers), 0
    loss = Loss(len(hooks), extractor.lm.d_model)
    with file, closing(prefetch(extractor.run(windows), 1)) as passes:
        for acts in passes:
            put_rows(file, hooks, row, acts, store.dtype, loss)
            row += acts.shape[1]
            progress.advance(acts.shape[1])
        for name, column in _index(windows, store.skip_first).items():
            assert len(column) == row, f"{row} rows where {len(column)} were planned"
            file.put(name, 0, torch.from_numpy(column))
        if store.dtype is StoreDtype.int8:
            file.put(ERRORS, 0, loss.row())


def _index(windows: Windows, skip_first: int) -> dict[str, Int32[np.ndarray, " token"]]:
    positions = np.arange(len(windows.ids)) - np.repeat(windows.bounds[:-1], windows.lengths)
    kept = positions >= skip_first
    return {
        "token_ids": windows.ids[kept],
        "document_ids": windows.documents[kept],
        "positions": positions[kept].astype(np.int32),
    }
