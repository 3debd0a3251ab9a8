"""Activations on disk: safetensors shards, written once and read through memory maps."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from ghosttrack.artifacts import read_json, write_json
from ghosttrack.data.config import ExtractConfig, StoreConfig, StoreDtype
from ghosttrack.data.corpora import CorpusWindows
from ghosttrack.data.forward import Extractor
from ghosttrack.data.progress import TokenProgress
from ghosttrack.data.shards import ShardFile, map_shard
from ghosttrack.data.source import PartSource, Tokens
from ghosttrack.data.windows import Windows
from ghosttrack.errors import ConfigError
from ghosttrack.models.lm import LM

PARTS = ("train", "heldout")
INDEX = ("token_ids", "document_ids", "positions")
"""Tensors `[tokens]` int32 beside the activations: where each row comes from."""
BLOCK_ROWS = 512
"""Rows read together; enough that a disk reads in sequence, few enough that documents mix."""
CHUNK_BYTES = 2**32
"""Shuffled among at a time, so that a store larger than memory is read from disk once an epoch."""


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
    _check_room(folder, disk_bytes(n_tokens - done, len(layers), lm.d_model, store.dtype), store)
    with TokenProgress("extracting activations", n_tokens, done) as progress:
        for windows, shard in plans:
            if shard.name not in ready:
                _write_shard(folder / shard.name, extractor, windows, shard, progress)
    write_json(
        folder / "store.json",
        {
            "layers": list(layers),
            "d_model": lm.d_model,
            "dtype": store.dtype.name,
            "skip_first": store.skip_first,
            "n_train": sum(shard.n_rows for _, shard in plans if shard.part == "train"),
            "n_heldout": sum(shard.n_rows for _, shard in plans if shard.part == "heldout"),
            "shards": [
                {"file": shard.name, "part": shard.part, "n_rows": shard.n_rows}
                for _, shard in plans
            ],
        },
    )


def _check_room(folder: Path, needed: int, store: StoreConfig) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigError(
            f"store.dtype={store.dtype.name}: the store needs {needed / 1e9:.1f} GB more and"
            f" {folder} has {free / 1e9:.1f} GB free; lower corpus.num_tokens, choose fewer layers,"
            " or set train.source=stream"
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
        DataError: A file is missing, truncated or not what `store.json` says.
    """

    def __init__(self, folder: Path) -> None:
        facts = read_json(folder / "store.json")
        self.folder = folder
        self.layers: list[int] = facts["layers"]
        self.hooks = hook_names(self.layers)
        self.d_model: int = facts["d_model"]
        self.dtype = torch_dtype(StoreDtype[facts["dtype"]])
        self.n_train: int = facts["n_train"]
        self.n_heldout: int = facts["n_heldout"]
        self._shards = facts["shards"]

    def part(self, name: str) -> "StorePart":
        """Open `train` or `heldout`."""
        return StorePart(self, [shard["file"] for shard in self._shards if shard["part"] == name])

    def read(self, file: str) -> dict[str, Tensor]:
        """Map the tensors of one shard; nothing is read before it is used."""
        return map_shard(self.folder / file)


class StorePart:
    """The rows of a part, over its shards, in blocks."""

    def __init__(self, store: ActivationStore, files: Sequence[str]) -> None:
        self.hooks = store.hooks
        self.d_model = store.d_model
        self.shards = [store.read(file) for file in files]
        rows = [len(shard["positions"]) for shard in self.shards]
        self.ends = np.cumsum(rows)
        starts = [
            np.arange(end - n, end, BLOCK_ROWS) for n, end in zip(rows, self.ends, strict=True)
        ]
        self.unit_starts = np.concatenate(starts)
        self.unit_tokens = np.diff(self.unit_starts, append=self.ends[-1])

    def load(self, units: Int64[np.ndarray, " unit"]) -> Tokens:
        """Number the rows of some blocks; they are read when they are asked for."""
        tokens = self.unit_tokens[units]
        shift = self.unit_starts[units] - (tokens.cumsum() - tokens)
        rows_of_units = np.repeat(shift, tokens) + np.arange(tokens.sum())

        def read(rows: Int64[np.ndarray, " row"]) -> Float[Tensor, "hook row d_model"]:
            return self.read(rows_of_units[rows])

        return read

    def read(self, rows: Int64[np.ndarray, " row"]) -> Float[Tensor, "hook row d_model"]:
        """Gather rows of the part, in any order."""
        acts = torch.empty(len(self.hooks), len(rows), self.d_model)
        shard_of = np.searchsorted(self.ends, rows, side="right")
        for index in np.unique(shard_of):
            here = np.flatnonzero(shard_of == index)
            shard = self.shards[index]
            local = torch.from_numpy(rows[here] - (self.ends[index] - len(shard["positions"])))
            for hook, name in enumerate(self.hooks):
                acts[hook, here] = shard[name].index_select(0, local).float()
        return acts


class StoreSource(PartSource):
    """Shuffled batches from a store.

    A store of up to `CHUNK_BYTES` is shuffled whole.
    """

    def __init__(self, store: ActivationStore) -> None:
        row = len(store.hooks) * store.d_model * store.dtype.itemsize
        super().__init__(
            store.part("train"), store.part("heldout"), max(CHUNK_BYTES // row, BLOCK_ROWS)
        )
