"""A model's activations over a corpus, written as a store."""

import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from ghosttrack.artifacts import POLL_S, Patience
from ghosttrack.data.config import StoreConfig, StoreDtype
from ghosttrack.data.corpora import CorpusWindows
from ghosttrack.data.forward import Extractor
from ghosttrack.data.progress import Meter
from ghosttrack.data.shards import SCALE, Loss, ShardFile, clear_unfinished, quantise
from ghosttrack.data.source import prefetch
from ghosttrack.data.store import (
    ERRORS,
    PARTS,
    RowFormat,
    ShardFacts,
    disk_bytes,
    hook_names,
    write_facts,
)
from ghosttrack.data.windows import StoredWindows, Windows
from ghosttrack.errors import ConfigError
from ghosttrack.files import UNFINISHED, in_bytes
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
    form = RowFormat(hook_names(extractor.layers), extractor.lm.d_model, store.dtype)
    _write_missing(folder, extractor, form, plans, place)
    if place.rank == 0:
        shards = [ShardFacts(shard.name, shard.part, shard.n_rows) for _, shard in plans]
        patience = Patience(str(folder))
        while not all((folder / shard.file).is_file() for shard in shards):
            time.sleep(POLL_S)
            patience.look(_last_write(folder))
        for stale in folder.glob(f".*{UNFINISHED}"):
            stale.unlink()  # of another machine's dead process
        write_facts(folder, form, shards)


def _last_write(folder: Path) -> int | None:
    """Tell when a file there was last written to; None where one is being renamed."""
    with suppress(FileNotFoundError):
        return max(file.stat().st_mtime_ns for file in (folder, *folder.iterdir()))
    return None


def check_room(folder: Path, n_rows: int, form: RowFormat) -> None:
    """Refuse rows that do not fit on the disk; what dead processes left there is removed.

    Raises:
        ConfigError: Too few bytes are free.
    """
    needed = disk_bytes(n_rows, len(form.hooks), form.d_model, form.dtype)
    needed -= clear_unfinished(folder)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigError(
            f"store.dtype={form.dtype.name}: the store needs {in_bytes(needed)} more and"
            f" {folder} has {in_bytes(free)} free; choose fewer layers or, for text, lower"
            " corpus.num_tokens or set train.source=stream"
        )


def write_shard(
    path: Path,
    form: RowFormat,
    index: Mapping[str, Int32[np.ndarray, " row"]],
    batches: Iterable[Float[Tensor, "hook row d_model"]],
    progress: Meter,
    closer: Executor | None = None,
) -> Future[None] | None:
    """Write a shard batch by batch, and beside the activations where each row comes from.

    Args:
        path: The file.
        form: What rows are.
        index: The tensors beside the activations.
        batches: All rows, in order.
        progress: Told of each batch.
        closer: Where waiting for the disk is done, if not here; then what is returned tells when.
    """
    n_rows = len(index["document_ids"])
    layout = form.layout(n_rows) | {name: (torch.int32, (n_rows,)) for name in index}
    if form.dtype is StoreDtype.int8:
        layout[ERRORS] = (torch.float32, (len(form.hooks), 2 + form.d_model))
    loss, row = Loss(len(form.hooks), form.d_model), 0
    with ShardFile(path, layout, closer) as file:
        for acts in batches:
            _put_rows(file, form, row, acts, loss)
            row += acts.shape[1]
            progress.advance(acts.shape[1])
        assert row == n_rows, f"{row} rows where {n_rows} were planned"
        for name, column in index.items():
            file.write(name, 0, torch.from_numpy(column))
        if form.dtype is StoreDtype.int8:
            file.write(ERRORS, 0, loss.row())
    return file.closed


def _put_rows(
    file: ShardFile,
    form: RowFormat,
    row: int,
    acts: Float[Tensor, "hook row d_model"],
    loss: Loss,
) -> None:
    """Write rows from row `row` on; add to `loss` what int8 loses."""
    if form.dtype is not StoreDtype.int8:
        for hook, rows in zip(form.hooks, acts.cpu(), strict=True):
            file.write(hook, row * form.d_model, rows)
        return
    stored = quantise(acts)
    parts = zip(form.hooks, stored.values.cpu(), stored.scales.cpu(), strict=True)
    for hook, rows, scales in parts:
        file.write(hook, row * form.d_model, rows)
        file.write(hook + SCALE, row, scales)
    loss.add(acts, stored)


def _write_missing(
    folder: Path,
    extractor: Extractor,
    form: RowFormat,
    plans: Sequence[tuple[StoredWindows, Shard]],
    place: Place,
) -> None:
    """Write this process' shards that are not there; one is closed while the next is filled."""
    try:
        present = set(os.listdir(folder))  # noqa: PTH208 - one look, not one per shard
    except FileNotFoundError:
        return  # nothing was missing, and the first process has committed the store
    check_room(folder, sum(one.n_rows for _, one in plans if one.name not in present), form)
    mine = plans[place.rank :: place.world_size]
    missing = [(windows, shard) for windows, shard in mine if shard.name not in present]
    n_tokens, n_missing = (sum(shard.n_rows for _, shard in some) for some in (mine, missing))
    token_bytes = disk_bytes(1, len(form.hooks), form.d_model, form.dtype)
    title = "extracting activations"
    if place.world_size > 1:
        title += f" (process {place.rank + 1} of {place.world_size})"
    with (
        Meter(title, n_tokens, n_tokens - n_missing, token_bytes) as progress,
        ThreadPoolExecutor(1) as closer,
    ):
        closed: Future[None] | None = None
        for stored, shard in missing:
            windows = stored.read(shard.windows)
            index = _index(windows, extractor.skip_first)
            with closing(prefetch(extractor.run(windows), 1)) as passes:
                written = write_shard(folder / shard.name, form, index, passes, progress, closer)
            if closed is not None:
                closed.result()
            closed = written
        if closed is not None:
            closed.result()


def _index(windows: Windows, skip_first: int) -> dict[str, Int32[np.ndarray, " token"]]:
    positions = np.arange(len(windows.ids)) - np.repeat(windows.bounds[:-1], windows.lengths)
    kept = positions >= skip_first
    return {
        "token_ids": windows.ids[kept],
        "document_ids": windows.documents[kept],
        "positions": positions[kept].astype(np.int32),
    }
