"""Activations on disk: safetensors shards, written once and read through memory maps."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64, UInt8
from torch import Tensor

from ghosttrack.artifacts import read_json, write_json
from ghosttrack.data.config import ExtractConfig, StoreConfig, StoreDtype
from ghosttrack.data.corpora import CorpusWindows
from ghosttrack.data.forward import Extractor
from ghosttrack.data.progress import TokenProgress
from ghosttrack.data.ranks import Deal
from ghosttrack.data.shards import ShardFile, map_shard, stored_tensors
from ghosttrack.data.source import PartSource, Tokens
from ghosttrack.data.windows import Windows
from ghosttrack.errors import ConfigError, DataError
from ghosttrack.models.lm import LM

PARTS = ("train", "heldout")
INDEX = ("token_ids", "document_ids", "positions")
"""Tensors `[tokens]` int32 beside the activations: where each row comes from."""
BLOCK_ROWS = 512
"""Rows read together; enough that a disk reads in sequence, few enough that documents mix."""
CHUNK_BYTES = 2**31
"""Activations shuffled among at a time, all hook points and ranks together.

A larger store is read in such chunks, two of which are in memory: one that is handed out and the
next one. The order of a store's tokens follows from this number.
"""


def torch_dtype(dtype: StoreDtype) -> torch.dtype:
    """Turn the setting into PyTorch's dtype."""
    return getattr(torch, dtype.value)


def hook_names(layers: Sequence[int]) -> list[str]:
    """Name the hook points of layers, as tensors and folders are named."""
    return [f"layer_{layer}" for layer in layers]


def disk_bytes(n_tokens: int, n_hooks: int, d_model: int, dtype: StoreDtype) -> int:
    """Count the bytes of a store's tensors.

    >>> disk_bytes(10_000_000, 24, 1024, StoreDtype.bf16)
    491640000000
    """
    row = n_hooks * d_model * torch_dtype(dtype).itemsize + len(INDEX) * torch.int32.itemsize
    return n_tokens * row


class Shard(NamedTuple):
    """One file of a store: a fixed set of windows."""

    part: str
    name: str
    windows: Int64[np.ndarray, " window"]
    """By length in ascending order."""
    n_rows: int


def plan(part: str, windows: Windows, skip_first: int, shard_tokens: int) -> list[Shard]:
    """Deal a part's windows to shards of about `shard_tokens` kept tokens."""
    kept = windows.kept(skip_first)
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
    lm: LM,
    corpus: CorpusWindows,
    layers: Sequence[int],
    store: StoreConfig,
    extract: ExtractConfig,
) -> None:
    """Write the activations of a corpus, going on after the last complete shard in `folder`.

    Each shard holds `layer_<l>` [tokens d_model] and the `INDEX`; `store.json` lists the shards. A
    shard's content does not depend on when it was written, nor beyond rounding on
    `extract.batch_size`.

    Raises:
        ConfigError: The disk has no room, or the device no memory for one window.
        DataError: An activation is not a finite number.
    """
    extractor = Extractor(
        lm, list(layers), store.skip_first, torch_dtype(store.dtype), extract.batch_size
    )
    plans = [
        (windows, shard)
        for part, windows in zip(PARTS, corpus, strict=True)
        for shard in plan(part, windows, store.skip_first, store.shard_tokens)
    ]
    n_tokens = sum(shard.n_rows for _, shard in plans)
    ready = {shard.name for _, shard in plans if (folder / shard.name).is_file()}
    done = sum(shard.n_rows for _, shard in plans if shard.name in ready)
    check_room(folder, disk_bytes(n_tokens - done, len(layers), lm.d_model, store.dtype), store)
    with TokenProgress("extracting activations", n_tokens, done) as progress:
        for windows, shard in plans:
            if shard.name not in ready:
                _write_shard(folder / shard.name, extractor, windows, shard, progress)
    shards = [ShardFacts(shard.name, shard.part, shard.n_rows) for _, shard in plans]
    write_facts(folder, hook_names(layers), lm.d_model, store.dtype, shards)


class ShardFacts(NamedTuple):
    """What `store.json` says of a shard."""

    file: str
    part: str
    n_rows: int


def write_facts(
    folder: Path,
    hooks: Sequence[str],
    d_model: int,
    dtype: StoreDtype,
    shards: Sequence[ShardFacts],
) -> None:
    """Write `store.json`: what the shards beside it hold."""
    facts = {"hooks": list(hooks), "d_model": d_model, "dtype": dtype.name}
    rows = {f"n_{part}": sum(one.n_rows for one in shards if one.part == part) for part in PARTS}
    write_json(
        folder / "store.json", {**facts, **rows, "shards": [one._asdict() for one in shards]}
    )


def check_room(folder: Path, needed: int, store: StoreConfig) -> None:
    """Refuse a store that does not fit on its disk.

    Raises:
        ConfigError: Fewer than `needed` bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigError(
            f"store.dtype={store.dtype.name}: the store needs {needed / 1e9:.1f} GB more and"
            f" {folder} has {free / 1e9:.1f} GB free; choose fewer layers or, for text, lower"
            " corpus.num_tokens or set train.source=stream"
        )


def _write_shard(
    path: Path, extractor: Extractor, windows: Windows, shard: Shard, progress: TokenProgress
) -> None:
    shape = (shard.n_rows, extractor.lm.d_model)
    hooks = hook_names(extractor.layers)
    layout = {hook: (extractor.dtype, shape) for hook in hooks}
    layout |= {name: (torch.int32, (shard.n_rows,)) for name in INDEX}
    with ShardFile(path, layout) as file:
        row = 0
        for acts in extractor.run(windows, shard.windows):
            for hook, rows in zip(hooks, acts.cpu(), strict=True):
                file.put(hook, row * shape[1], rows)
            row += acts.shape[1]
            progress.advance(acts.shape[1])
        assert row == shard.n_rows, f"{row} rows where {shard.n_rows} were planned"
        for name, column in _index(windows, shard, extractor.skip_first).items():
            file.put(name, 0, torch.from_numpy(column))


def _index(
    windows: Windows, shard: Shard, skip_first: int
) -> dict[str, Int32[np.ndarray, " token"]]:
    kept = windows.kept(skip_first)[shard.windows]
    # Position of each row in its window: rows count up from skip_first, anew in every window.
    positions = np.arange(shard.n_rows) - np.repeat(kept.cumsum() - kept, kept) + skip_first
    starts = windows.bounds[shard.windows]
    return {
        "token_ids": windows.ids[np.repeat(starts, kept) + positions],
        "document_ids": np.repeat(windows.documents[shard.windows], kept),
        "positions": positions.astype(np.int32),
    }


class ActivationStore:
    """A complete store, for reading.

    Args:
        folder: What `write_store` wrote.

    Raises:
        DataError: A file is missing or not what `store.json` says.
    """

    def __init__(self, folder: Path) -> None:
        facts = read_json(folder / "store.json")
        self.folder = folder
        self.hooks: list[str] = facts["hooks"]
        self.d_model: int = facts["d_model"]
        self.dtype = torch_dtype(StoreDtype[facts["dtype"]])
        self.n_train: int = facts["n_train"]
        self.n_heldout: int = facts["n_heldout"]
        self.shards = [ShardFacts(**one) for one in facts["shards"]]


class StorePart:
    """The rows of a part, over its shards, in blocks.

    What is larger than a chunk is read into memory in whole blocks, as they follow one another on
    the disk; what is not stays memory-mapped, which costs less where the system has cached it (1.06
    GB in shuffled batches of 4,096: 1.4 s of CPU time an epoch against 2.5 s).

    Args:
        store: Where the rows lie.
        name: `train` or `heldout`.
        hooks: Whose tensors are read.
        chunk_tokens: Most rows that are mapped.

    Raises:
        DataError: A shard is missing or truncated.
    """

    def __init__(
        self, store: ActivationStore, name: str, hooks: Sequence[str], chunk_tokens: int
    ) -> None:
        self.hooks = list(hooks)
        self.d_model = store.d_model
        self.dtype = store.dtype
        shards = [shard for shard in store.shards if shard.part == name]
        rows = [shard.n_rows for shard in shards]
        self.paths = [store.folder / shard.file for shard in shards]
        self.tensors = [stored_tensors(path) for path in self.paths]
        self.ends = np.cumsum(rows)
        self.first_rows = self.ends - rows
        starts = [
            np.arange(first, end, BLOCK_ROWS)
            for first, end in zip(self.first_rows, self.ends, strict=True)
        ]
        self.unit_starts = np.concatenate(starts)
        self.unit_tokens = np.diff(self.unit_starts, append=self.ends[-1])
        self.mapped = None
        if self.ends[-1] <= chunk_tokens:
            self.mapped = [map_shard(path) for path in self.paths]

    def load(self, units: Int64[np.ndarray, " unit"], dealt: Deal) -> Tokens:
        """Map or read some blocks; their tokens count as the blocks are given."""
        if self.mapped is None:
            acts = self._read(units, dealt)
            return lambda first, last: acts[:, first:last].clone()
        tokens = self.unit_tokens[units]
        shift = self.unit_starts[units] - (tokens.cumsum() - tokens)
        rows = (np.repeat(shift, tokens) + np.arange(tokens.sum()))[dealt.mine]
        mapped = self.mapped
        return lambda first, last: self._gather(mapped, rows[first:last])

    def _gather(
        self, shards: list[dict[str, Tensor]], rows: Int64[np.ndarray, " row"]
    ) -> Float[Tensor, "hook row d_model"]:
        acts = torch.empty(len(self.hooks), len(rows), self.d_model, dtype=self.dtype)
        shard_of = np.searchsorted(self.ends, rows, side="right")
        for index in np.unique(shard_of):
            here = np.flatnonzero(shard_of == index)
            local = torch.from_numpy(rows[here] - self.first_rows[index])
            for hook, name in enumerate(self.hooks):
                acts[hook, here] = shards[index][name].index_select(0, local)
        return acts

    def _read(
        self, units: Int64[np.ndarray, " unit"], dealt: Deal
    ) -> Float[Tensor, "hook row d_model"]:
        """Read blocks in the order of the disk, each row to where it is handed out."""
        acts = torch.empty(len(self.hooks), len(dealt.mine), self.d_model, dtype=self.dtype)
        target = acts.view(torch.uint8).numpy()
        ends = self.unit_tokens[units].cumsum()
        shard_of = np.searchsorted(self.ends, self.unit_starts[units], side="right")
        for index in np.unique(shard_of):
            here = np.flatnonzero(shard_of == index)
            here = here[np.argsort(self.unit_starts[units[here]])]
            blocks = []
            for unit, end in zip(units[here], ends[here], strict=True):
                n_rows = int(self.unit_tokens[unit])
                dealt_here = slice(end - n_rows, end)
                mine = np.flatnonzero(dealt.ranks[dealt_here] == dealt.rank)
                first = int(self.unit_starts[unit] - self.first_rows[index])
                blocks.append(_Block(first, n_rows, mine, dealt.rows[dealt_here][mine]))
            self._read_blocks(int(index), blocks, target)
        return acts

    def _read_blocks(
        self, index: int, blocks: "list[_Block]", target: UInt8[np.ndarray, "hook row byte"]
    ) -> None:
        buffer = np.empty((BLOCK_ROWS, target.shape[2]), dtype=np.uint8)
        with self.paths[index].open("rb", buffering=0) as file:
            for hook, name in enumerate(self.hooks):
                for block in blocks:
                    rows = buffer[: block.n_rows]
                    file.seek(self.tensors[index][name].start + block.first * target.shape[2])
                    if file.readinto(rows.data) < rows.nbytes:
                        raise DataError(f"{self.paths[index]}: ended while {name} was read")
                    is_whole = len(block.mine) == block.n_rows
                    target[hook, block.rows] = rows if is_whole else rows[block.mine]


class _Block(NamedTuple):
    """Consecutive rows of a shard, and what a rank takes of them."""

    first: int
    n_rows: int
    mine: Int64[np.ndarray, " row"]
    """Which of them."""
    rows: Int64[np.ndarray, " row"]
    """Where they go."""


class StoreSource(PartSource):
    """Shuffled batches from a store, in its number format, read in the background.

    Args:
        store: What `write_store` wrote.
        hooks: Read and serve only these; all where there are none.
        chunk_bytes: Activations to shuffle among. The order is the same whichever hooks are read.
    """

    def __init__(
        self,
        store: ActivationStore,
        hooks: Sequence[str] | None = None,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        row_bytes = len(store.hooks) * store.d_model * store.dtype.itemsize
        chunk_tokens = max(chunk_bytes // row_bytes, BLOCK_ROWS)
        train, heldout = (
            StorePart(store, part, hooks or store.hooks, chunk_tokens) for part in PARTS
        )
        super().__init__(train, heldout, chunk_tokens, ahead=True)
