"""Safetensors files that are filled in place and read through memory maps; rows as int8."""

import json
import math
import os
import socket
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from contextlib import suppress
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int8
from torch import Tensor

from ghosttrack.artifacts import record_checksum
from ghosttrack.errors import ConfigError, DataError, whole
from ghosttrack.files import DISK_FULL, UNFINISHED

DTYPES = {
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.int8: "I8",
}
"""Names in the files of PyTorch's number formats."""

SCALE = ".scale"
"""Ending of the name of the tensor that holds the scales of another's rows."""
LEVELS = 127
"""Of either sign: a row's largest value is this many times its scale."""
Layout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
"""Number format and shape of each tensor."""


class ShardFile:
    """A safetensors file that is filled in place and gets its name when it is complete.

    Rows are written as they come, so that memory does not grow with the shard. `safetensors` itself
    only writes tensors that are all in memory.

    Args:
        path: The file; until it is complete it has a name of this process' own beside it.
        layout: What it holds.
        closer: Where waiting for the disk and hashing are done, if not here; `closed` is when.
    """

    def __init__(self, path: Path, layout: Layout, closer: Executor | None = None) -> None:
        self.path = path
        owner = f"{socket.gethostname()}.{os.getpid()}"
        self.temporary = path.with_name(f".{path.name}.{owner}{UNFINISHED}")
        self.closer = closer
        self.closed: Future[None] | None = None
        # Widest types first keeps every tensor aligned, as the format asks; then by name.
        order = sorted(layout, key=lambda name: (-layout[name][0].itemsize, name))
        sizes = [layout[name][0].itemsize * math.prod(layout[name][1]) for name in order]
        ends = list(accumulate(sizes, initial=0))
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        for name, span in zip(order, pairwise(ends), strict=True):
            dtype, shape = layout[name]
            header[name] = {
                "dtype": DTYPES[dtype],
                "shape": list(shape),
                "data_offsets": list(span),
            }
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self.head = len(text).to_bytes(8, "little") + text
        self.starts = {name: len(self.head) + end for name, end in zip(order, ends, strict=False)}

    def __enter__(self) -> "ShardFile":
        self.file = self.temporary.open("wb")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.file.close()
            self.temporary.unlink()
        elif self.closer is None:
            self._close()
        else:
            self.closed = self.closer.submit(self._close)

    def _close(self) -> None:
        with self.file:
            self._write(0, self.head)
            os.fsync(self.file.fileno())
        record_checksum(self.temporary, self.path.name)
        self.temporary.replace(self.path)  # last: who sees the name may commit the folder

    def write(self, name: str, element: int, values: Tensor) -> None:
        """Write contiguous values at an element of a tensor."""
        data = values.contiguous().view(-1).view(torch.uint8).numpy().data
        self._write(self.starts[name] + element * values.element_size(), data)

    def _write(self, offset: int, data: bytes | memoryview) -> None:
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self.file.fileno(), view, offset)
                view, offset = view[written:], offset + written
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            raise ConfigError(
                f"output_root: no room left for {self.path} ({error.strerror}); free some and run"
                " the same command again, or set train.source=stream"
            ) from error


def clear_unfinished(folder: Path) -> int:
    """Remove what dead processes of this machine left half filled; return the others' bytes."""
    n_bytes = 0
    for file in folder.glob(f".*{UNFINISHED}"):
        *_, host, pid, _ = file.name.rsplit(".", 3)
        with suppress(FileNotFoundError):  # its owner has given it its name
            if host == socket.gethostname() and not _is_alive(int(pid)):
                file.unlink()
            else:
                n_bytes += file.stat().st_blocks * 512
    return n_bytes


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Stored(NamedTuple):
    """A tensor of a shard, and the byte of the file at which it begins."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def n_bytes(self) -> int:
        """Bytes that the tensor takes."""
        return self.dtype.itemsize * math.prod(self.shape)


def stored_tensors(path: Path) -> dict[str, Stored]:
    """Read where the tensors of a shard lie.

    Raises:
        DataError: The file is missing, truncated or no safetensors file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = 8 + int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(head, size) - 8))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a readable shard ({error}); delete its folder") from error
    dtypes = {name: dtype for dtype, name in DTYPES.items()}
    tensors = {}
    with whole(path):
        for name, facts in header.items():
            if name == "__metadata__":
                continue
            start, end = (head + offset for offset in facts["data_offsets"])
            if end > size:
                raise DataError(f"{path}: truncated in {name}; delete its folder to build it again")
            tensors[name] = Stored(dtypes[facts["dtype"]], tuple(facts["shape"]), start)
    return tensors


def map_shard(path: Path) -> dict[str, Tensor]:
    """Map a shard's tensors, copy-on-write: writing to one never reaches the file.

    Raises:
        DataError: The file is missing, truncated or no safetensors file.
    """
    tensors = stored_tensors(path)
    data = torch.from_numpy(np.memmap(path, dtype=np.uint8, mode="c"))
    return {
        name: data[one.start : one.start + one.n_bytes].view(one.dtype).view(one.shape)
        for name, one in tensors.items()
    }


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
    """What a shard's rows lose, batch by batch; its answer does not depend on the batches."""

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
