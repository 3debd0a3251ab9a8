"""What an activation store holds, and shuffled batches from it."""

import math
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple
from weakref import ref

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped, UInt8
from torch import Tensor

from ghosttrack.data.config import StoreDtype
from ghosttrack.data.shards import SCALE, Quantised, map_shard, stored_tensors, variance_lost
from ghosttrack.data.source import ActivationSource, Deal, Tokens
from ghosttrack.errors import DataError
from ghosttrack.files import read_json, write_json

BLOCK_ROWS = 512
"""Rows read together; enough that a disk reads in sequence, few enough that documents mix."""
CHUNK_BYTES = 2**31
"""Activations shuffled among at a time, all hook points and ranks together.

A larger store is read in such chunks, two of which are in memory: one that is handed out and the
next one. The order of a store's tokens follows from this number.
"""
PARTS = ("train", "heldout")
INDEX = ("token_ids", "document_ids", "positions")
"""Tensors `[tokens]` int32 beside the activations: where each row comes from."""
ERRORS = "quantisation"
"""Tensor `[hooks 2+d_model]` fp32 of an int8 shard: its `Loss.row`."""
MOST_KEPT = 4
"""Pieces of memory of a size that wait to be given out again."""


def torch_dtype(dtype: StoreDtype) -> torch.dtype:
    """Return the number format in which activations are made and handed out.

    int8 is for the disk alone.
    """
    return torch.float32 if dtype is StoreDtype.int8 else getattr(torch, dtype.value)


def hook_names(layers: Sequence[int]) -> list[str]:
    """Name the hook points of layers, as tensors and folders are named."""
    return [f"layer_{layer}" for layer in layers]


def disk_bytes(n_tokens: int, n_hooks: int, d_model: int, dtype: StoreDtype) -> int:
    """Count the bytes of a store's tensors.

    >>> disk_bytes(10_000_000, 24, 1024, StoreDtype.bf16)
    491640000000
    >>> disk_bytes(10_000_000, 24, 1024, StoreDtype.int8)
    246840000000
    """
    layout = RowFormat([""], d_model, dtype).layout(1)
    of_hook = sum(kind.itemsize * math.prod(shape) for kind, shape in layout.values())
    return n_tokens * (n_hooks * of_hook + len(INDEX) * torch.int32.itemsize)


class RowFormat(NamedTuple):
    """How the rows of a store lie in its shards."""

    hooks: Sequence[str]
    d_model: int
    dtype: StoreDtype

    def layout(self, n_rows: int) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Lay out rows: those of each hook point, and their scales for int8."""
        shape = (n_rows, self.d_model)
        layout: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
            hook: (getattr(torch, self.dtype.value), shape) for hook in self.hooks
        }
        if self.dtype is StoreDtype.int8:
            layout |= {hook + SCALE: (torch.float32, (n_rows,)) for hook in self.hooks}
        return layout


class ShardFacts(NamedTuple):
    """What `store.json` says of a shard."""

    file: str
    part: str
    n_rows: int


def write_facts(folder: Path, form: RowFormat, shards: Sequence[ShardFacts]) -> None:
    """Write `store.json`: what the shards beside it hold, and what int8 loses by hook point."""
    facts: dict[str, object] = {**form._asdict(), "dtype": form.dtype.name}
    if form.dtype is StoreDtype.int8:
        rows = torch.stack([map_shard(folder / one.file)[ERRORS] for one in shards])
        lost = variance_lost(rows, torch.tensor([float(one.n_rows) for one in shards]))
        facts["fvu"] = dict(zip(form.hooks, lost.tolist(), strict=True))
    rows = {f"n_{part}": sum(one.n_rows for one in shards if one.part == part) for part in PARTS}
    write_json(
        folder / "store.json", {**facts, **rows, "shards": [one._asdict() for one in shards]}
    )


class ActivationStore:
    """A complete store, for reading.

    Raises:
        DataError: A file is missing or not what `store.json` says.
    """

    def __init__(self, folder: Path) -> None:
        facts = read_json(folder / "store.json")
        self.folder = folder
        self.hooks: list[str] = facts["hooks"]
        self.d_model: int = facts["d_model"]
        self.is_quantised = facts["dtype"] == StoreDtype.int8.name
        self.dtype = torch_dtype(StoreDtype[facts["dtype"]])
        """Of the batches that are read."""
        self.fvu: dict[str, float] = facts.get("fvu", {})
        """Share of the variance that int8 loses, by hook point; empty for other formats."""
        self.n_train: int = facts["n_train"]
        self.n_heldout: int = facts["n_heldout"]
        self.shards = [ShardFacts(**one) for one in facts["shards"]]


class Room:
    """Memory that is given out again when nobody holds it: fresh pages cost as much as reading."""

    def __init__(self) -> None:
        self.held: defaultdict[int, list[tuple[np.ndarray, ref[np.ndarray]]]] = defaultdict(list)
        self.lock = Lock()

    def take(self, n_bytes: int) -> UInt8[np.ndarray, " byte"]:
        """Give so many bytes, which hold anything; NumPy asks for huge pages."""
        size = 3 << (n_bytes // 3).bit_length()  # what is not touched takes no memory
        with self.lock:
            held = self.held[size]
            at = next((at for at, (_, given) in enumerate(held) if given() is None), len(held))
            found = held[at][0] if at < len(held) else np.empty(size, dtype=np.uint8)
            given = found[:n_bytes]
            if at < MOST_KEPT:
                held[at : at + 1] = [(found, ref(given))]
            return given


class StorePart:
    """The rows of a part, over its shards, in blocks.

    What is larger than a chunk is read into memory in whole blocks, as they follow one another on
    the disk; what is not stays memory-mapped, which costs less where the system has cached it (1.06
    GB in shuffled batches of 4,096: 1.4 s of CPU time an epoch against 2.5 s).

    Args:
        name: `train` or `heldout`.
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
        self.is_quantised = store.is_quantised
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
        self.room = Room()
        self.mapped = None
        if self.ends[-1] <= chunk_tokens:
            self.mapped = [map_shard(path) for path in self.paths]

    def load(self, units: Int64[np.ndarray, " unit"], dealt: Deal) -> Tokens:
        """Map or read some blocks; their tokens count as the blocks are given."""
        if self.mapped is None:
            kept = np.sort(dealt.mine)
            read = {ending: self._read(ending, units, kept) for ending in self._endings}
            places = np.searchsorted(kept, dealt.mine)
            return lambda first, last: self._restored(
                {
                    ending: self._rows_at(ending, rows, places[first:last])
                    for ending, rows in read.items()
                }
            )
        tokens = self.unit_tokens[units]
        shift = self.unit_starts[units] - (tokens.cumsum() - tokens)
        rows = (np.repeat(shift, tokens) + np.arange(tokens.sum()))[dealt.mine]
        mapped = self.mapped
        return lambda first, last: self._restored(
            {ending: self._gather(mapped, ending, rows[first:last]) for ending in self._endings}
        )

    @property
    def _endings(self) -> list[str]:
        """What follows a hook point's name in those of its tensors."""
        return ["", SCALE] if self.is_quantised else [""]

    def _restored(
        self, read: dict[str, Shaped[Tensor, "hook row *d_model"]]
    ) -> Float[Tensor, "hook row d_model"]:
        """Put int8 rows and their scales together."""
        if not self.is_quantised:
            return read[""]
        return Quantised(read[""], read[SCALE]).restored()

    def _empty(self, ending: str, n_rows: int) -> Shaped[Tensor, "hook row *d_model"]:
        one = self.tensors[0][self.hooks[0] + ending]
        shape = (len(self.hooks), n_rows, *one.shape[1:])
        held = self.room.take(math.prod(shape) * one.dtype.itemsize)
        return torch.from_numpy(held).view(one.dtype).view(shape)

    def _gather(
        self, shards: list[dict[str, Tensor]], ending: str, rows: Int64[np.ndarray, " row"]
    ) -> Shaped[Tensor, "hook row *d_model"]:
        found = self._empty(ending, len(rows))
        shard_of = np.searchsorted(self.ends, rows, side="right")
        for index in np.unique(shard_of):
            here = np.flatnonzero(shard_of == index)
            local = torch.from_numpy(rows[here] - self.first_rows[index])
            for hook, name in enumerate(self.hooks):
                found[hook, here] = shards[index][name + ending].index_select(0, local)
        return found

    def _rows_at(
        self,
        ending: str,
        rows: Shaped[Tensor, "hook row *d_model"],
        places: Int64[np.ndarray, " place"],
    ) -> Shaped[Tensor, "hook place *d_model"]:
        found = self._empty(ending, len(places))
        for source, target in zip(_bytes(rows), _bytes(found), strict=True):
            np.take(source, places, axis=0, out=target, mode="clip")
        return found

    def _read(
        self, ending: str, units: Int64[np.ndarray, " unit"], kept: Int64[np.ndarray, " row"]
    ) -> Shaped[Tensor, "hook row *d_model"]:
        """Read blocks in the order of the disk, and keep these of their tokens, ascending."""
        found = self._empty(ending, len(kept))
        target = _bytes(found)
        tokens = self.unit_tokens[units]
        ends = tokens.cumsum()
        shard_of = np.searchsorted(self.ends, self.unit_starts[units], side="right")
        for index in np.unique(shard_of):
            here = np.flatnonzero(shard_of == index)
            here = here[np.argsort(self.unit_starts[units[here]])]
            blocks = []
            for at in here.tolist():
                first, last = np.searchsorted(kept, [ends[at] - tokens[at], ends[at]])
                start = int(self.unit_starts[units[at]] - self.first_rows[index])
                mine = kept[first:last] - (ends[at] - tokens[at])
                blocks.append(_Block(start, int(tokens[at]), mine, slice(first, last)))
            self._read_blocks(int(index), ending, blocks, target)
        return found

    def _read_blocks(
        self,
        index: int,
        ending: str,
        blocks: "list[_Block]",
        target: UInt8[np.ndarray, "hook row byte"],
    ) -> None:
        width = target.shape[2]
        with self.paths[index].open("rb", buffering=0) as file:
            for hook, name in enumerate(self.hooks):
                start = self.tensors[index][name + ending].start
                for block in blocks:
                    rows = whole = target[hook, block.rows]
                    if len(block.mine) < block.n_rows:
                        whole = np.empty((block.n_rows, width), dtype=np.uint8)
                    read = os.preadv(file.fileno(), [whole.data], start + block.first * width)
                    if read < whole.nbytes:
                        raise DataError(f"{self.paths[index]}: ended while {name} was read")
                    if whole is not rows:
                        np.take(whole, block.mine, axis=0, out=rows, mode="clip")


class _Block(NamedTuple):
    """Consecutive rows of a shard, and what a rank takes of them."""

    first: int
    n_rows: int
    mine: Int64[np.ndarray, " row"]
    """Which of them."""
    rows: slice
    """Where they go."""


def _bytes(rows: Shaped[Tensor, "hook row *d_model"]) -> UInt8[np.ndarray, "hook row byte"]:
    return (rows if rows.ndim == 3 else rows[..., None]).view(torch.uint8).numpy()


class StoreSource(ActivationSource):
    """Shuffled batches from a store, in its number format, read in the background.

    Rows of int8 come in fp32.

    Args:
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
