"""What an activation store holds, and shuffled batches from it."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int8, Int64, Shaped, UInt8
from torch import Tensor

from ghosttrack.data.config import StoreConfig, StoreDtype
from ghosttrack.data.shards import Layout, ShardFile, map_shard, stored_tensors
from ghosttrack.data.source import ActivationSource, Deal, Tokens
from ghosttrack.errors import ConfigError, DataError
from ghosttrack.files import read_json, write_json

SCALE = ".scale"
"""Ending of the name of the tensor that holds the scales of another's rows."""
LEVELS = 127
"""Of either sign: a row's largest value is this many times its scale."""


class Quantised(NamedTuple):
    """Rows of whole numbers; times their scale they are what was given, to half a scale."""

    values: Int8[Tensor, "*row d_model"]
    scales: Float32[Tensor, "*row"]

    def restored(self) -> Float32[Tensor, "*row d_model"]:
        """Return the rows as they will be read."""
        return self.values.float() * self.scales[..., None]


def quantise(acts: Float[Tensor, "*row d_model"]) -> Quantised:
    """Round each row to 255 levels between minus and plus its largest magnitude.

    >>> values, scales = quantise(torch.tensor([[-2.54, 0.0, 1.27]]))
    >>> values.tolist(), round(scales.item(), 4)
    ([[-127, 0, 64]], 0.02)
    """
    acts = acts.float()
    scales = acts.abs().amax(-1) / LEVELS
    values = (acts / scales.clamp_min(torch.finfo(torch.float32).tiny)[..., None]).round()
    return Quantised(values.to(torch.int8), scales)


class Loss:
    """What a shard's rows lose, batch by batch; its answer does not depend on the batches.

    Args:
        n_hooks: Hook points.
        d_model: Their width.
    """

    def __init__(self, n_hooks: int, d_model: int) -> None:
        self.n_rows = 0
        self.errors = torch.zeros(n_hooks, dtype=torch.float64)
        self.squares = torch.zeros(n_hooks, dtype=torch.float64)
        self.sums = torch.zeros(n_hooks, d_model, dtype=torch.float64)

    def add(self, acts: Float[Tensor, "hook row d_model"], stored: Quantised) -> None:
        """Take some rows, as they were and as they are stored."""
        exact = acts.double()
        self.n_rows += acts.shape[1]
        self.errors += (exact - stored.restored()).square().sum((1, 2)).cpu()
        self.squares += exact.square().sum((1, 2)).cpu()
        self.sums += exact.sum(1).cpu()

    def row(self) -> Float32[Tensor, "hook width"]:
        """Give squared errors, squared distances from the shard's mean, and that mean."""
        mean = self.sums / self.n_rows
        spread = self.squares - self.n_rows * mean.square().sum(1)
        return torch.cat([self.errors[:, None], spread[:, None], mean], dim=1).float()


def variance_lost(
    shards: Float32[Tensor, "shard hook width"], n_rows: Float[Tensor, " shard"]
) -> Float[Tensor, " hook"]:
    """Put shards' `Loss.row` together: squared errors over squared distances from the mean."""
    errors, spread, means = shards.double().split([1, 1, shards.shape[2] - 2], dim=2)
    weights = n_rows.double()[:, None, None]
    mean = (weights * means).sum(0) / weights.sum()
    between = weights * (means - mean).square().sum(2, keepdim=True)
    return errors.sum((0, 2)) / (spread + between).sum((0, 2))


PARTS = ("train", "heldout")
INDEX = ("token_ids", "document_ids", "positions")
"""Tensors `[tokens]` int32 beside the activations: where each row comes from."""
ERRORS = "quantisation"
"""Tensor `[hooks 2+d_model]` fp32 of an int8 shard: its `Loss.row`."""


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
    layout = rows_layout([""], 1, d_model, dtype)
    of_hook = sum(kind.itemsize * math.prod(shape) for kind, shape in layout.values())
    return n_tokens * (n_hooks * of_hook + len(INDEX) * torch.int32.itemsize)


def rows_layout(hooks: Sequence[str], n_rows: int, d_model: int, dtype: StoreDtype) -> Layout:
    """Lay out a shard's activations: of each hook point its rows, and their scales for int8."""
    layout = {hook: (getattr(torch, dtype.value), (n_rows, d_model)) for hook in hooks}
    if dtype is StoreDtype.int8:
        layout |= {hook + SCALE: (torch.float32, (n_rows,)) for hook in hooks}
    return layout


def put_rows(
    file: ShardFile,
    hooks: Sequence[str],
    row: int,
    acts: Float[Tensor, "hook row d_model"],
    dtype: StoreDtype,
    loss: Loss,
) -> None:
    """Write rows of some hook points from row `row` on; add to `loss` what int8 loses."""
    d_model = acts.shape[2]
    if dtype is not StoreDtype.int8:
        for hook, rows in zip(hooks, acts.cpu(), strict=True):
            file.put(hook, row * d_model, rows)
        return
    stored = quantise(acts)
    for hook, rows, scales in zip(hooks, stored.values.cpu(), stored.scales.cpu(), strict=True):
        file.put(hook, row * d_model, rows)
        file.put(hook + SCALE, row, scales)
    loss.add(acts, stored)


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
    """Write `store.json`: what the shards beside it hold, and what int8 loses by hook point."""
    facts: dict[str, object] = {"hooks": list(hooks), "d_model": d_model, "dtype": dtype.name}
    if dtype is StoreDtype.int8:
        rows = torch.stack([map_shard(folder / one.file)[ERRORS] for one in shards])
        lost = variance_lost(rows, torch.tensor([float(one.n_rows) for one in shards]))
        facts["fvu"] = dict(zip(hooks, lost.tolist(), strict=True))
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
            f"store.dtype={store.dtype.name}: the store needs {needed / 1e9:.2f} GB more and"
            f" {folder} has {free / 1e9:.2f} GB free; choose fewer layers or, for text, lower"
            " corpus.num_tokens or set train.source=stream"
        )


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
        self.is_quantised = facts["dtype"] == StoreDtype.int8.name
        self.dtype = torch_dtype(StoreDtype[facts["dtype"]])
        """Of the batches that are read."""
        self.fvu: dict[str, float] = facts.get("fvu", {})
        """Share of the variance that int8 loses, by hook point; empty for other formats."""
        self.n_train: int = facts["n_train"]
        self.n_heldout: int = facts["n_heldout"]
        self.shards = [ShardFacts(**one) for one in facts["shards"]]


BLOCK_ROWS = 512
"""Rows read together; enough that a disk reads in sequence, few enough that documents mix."""
CHUNK_BYTES = 2**31
"""Activations shuffled among at a time, all hook points and ranks together.

A larger store is read in such chunks, two of which are in memory: one that is handed out and the
next one. The order of a store's tokens follows from this number.
"""


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
        self.mapped = None
        if self.ends[-1] <= chunk_tokens:
            self.mapped = [map_shard(path) for path in self.paths]

    def load(self, units: Int64[np.ndarray, " unit"], dealt: Deal) -> Tokens:
        """Map or read some blocks; their tokens count as the blocks are given."""
        if self.mapped is None:
            read = {ending: self._read(ending, units, dealt) for ending in self._endings}
            return lambda first, last: self._restored(
                {ending: rows[:, first:last].clone() for ending, rows in read.items()}
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
        return torch.empty(len(self.hooks), n_rows, *one.shape[1:], dtype=one.dtype)

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

    def _read(
        self, ending: str, units: Int64[np.ndarray, " unit"], dealt: Deal
    ) -> Shaped[Tensor, "hook row *d_model"]:
        """Read blocks in the order of the disk, each row to where it is handed out."""
        found = self._empty(ending, len(dealt.mine))
        target = found.view(len(self.hooks), len(dealt.mine), -1).view(torch.uint8).numpy()
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
            self._read_blocks(int(index), ending, blocks, target)
        return found

    def _read_blocks(
        self,
        index: int,
        ending: str,
        blocks: "list[_Block]",
        target: UInt8[np.ndarray, "hook row byte"],
    ) -> None:
        buffer = np.empty((BLOCK_ROWS, target.shape[2]), dtype=np.uint8)
        with self.paths[index].open("rb", buffering=0) as file:
            for hook, name in enumerate(self.hooks):
                start = self.tensors[index][name + ending].start
                for block in blocks:
                    rows = buffer[: block.n_rows]
                    file.seek(start + block.first * target.shape[2])
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


class StoreSource(ActivationSource):
    """Shuffled batches from a store, in its number format, read in the background.

    Rows of int8 come in fp32.

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
