"""What an activation store holds: safetensors shards of rows, and `store.json` that lists them."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ghosttrack.data.config import StoreConfig, StoreDtype
from ghosttrack.data.quantise import SCALE, Loss, quantise, variance_lost
from ghosttrack.data.shards import Layout, ShardFile, map_shard
from ghosttrack.errors import ConfigError
from ghosttrack.files import read_json, write_json

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
