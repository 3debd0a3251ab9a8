"""Activations that others made: what their files hold, by hook point and problem; kept as a store.

Accepted are, in a file or in a folder of them,

    one tensor         [problem layer position d_model] or [problem layer d_model]
    tensors by layer   `layer_<l>` [row d_model] or [problem position d_model]
    JSON               {"samples": [{"problem_id": ..., "thoughts": {"layer_<l>": [[d floats] per
                       position]}}]}

Tensors come from `.npy`, `.safetensors` and `.pt` (a tensor or a dict of them, loaded weights-only)
and stay on the disk until they are used. In a folder each `.npy` file is a tensor named after it.
Beside the tensors there may be `layers` and `positions`, which number those axes (from 0 where they
are missing), and `problem_ids`, one per row or problem (else each is a problem of its own): as
further entries of a `.pt` or `.safetensors` file, as JSON in the latter's header, as `.npy` files,
or in a folder's `metadata.json`. The JSON's samples may give `problem_id` or `id`.

A hook point is `layer_<l>_pos_<p>` where there is an axis of positions, otherwise `layer_<l>`.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import ijson
import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Int64
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ghosttrack.data.config import StoreConfig
from ghosttrack.data.progress import Meter
from ghosttrack.data.store import PARTS, RowFormat, ShardFacts, torch_dtype, write_facts
from ghosttrack.data.store_write import check_room, write_shard
from ghosttrack.errors import DataError, whole
from ghosttrack.files import read_json

HELDOUT_FRAC = 0.2
"""Share of the problems that is kept apart for metrics."""
SPOOL = ".spool"
BLOCK_ROWS = 512
"""Rows of all hook points that are in memory at a time."""
METADATA = "metadata.json"
FACTS = ("layers", "positions", "problem_ids")
LAYER = re.compile(r"layer_(\d+)")
WOULD_DO = (
    "give one tensor [problem layer position d_model] or [problem layer d_model], or tensors"
    " layer_<l> [row d_model] or [problem position d_model]"
)


class Ready(NamedTuple):
    """Activations of the same rows at several hook points, on the disk."""

    acts: dict[str, Float[Tensor, "row d_model"]]
    """By hook point, layers and positions ascending."""
    problems: list[str]
    """Each row's problem."""


def ready_hooks(path: Path) -> dict[int, list[str]]:
    """List the hook points of each layer, ascending; of the JSON's the first sample tells.

    Raises:
        DataError: The file holds nothing that is accepted.
    """
    with whole(path):
        named = _named(path)
        if samples := _json_file(path):
            first = _thoughts(samples, 0, next(_samples(samples)))
            by_layer = {layer: torch.from_numpy(rows)[None] for layer, rows in first.items()}
        else:
            by_layer = _layers(path, named)
        return {
            layer: list(_hooks(path, layer, by_layer[layer], named.get("positions")))
            for layer in sorted(by_layer)
        }


def read_ready(path: Path, layers: Sequence[int], spool: Path) -> Ready:
    """Open the activations of some layers without loading them.

    Args:
        path: A file, or a folder of them.
        layers: Which to keep.
        spool: Where the JSON's numbers are put, as fp32, so that they need not fit into memory.

    Raises:
        DataError: The file holds nothing that is accepted.
    """
    with whole(path):
        return _read(path, layers, spool)


def _read(path: Path, layers: Sequence[int], spool: Path) -> Ready:
    named = _named(path)
    if samples := _json_file(path):
        named |= _spooled(samples, layers, spool)
    by_layer = _layers(path, named)
    acts: dict[str, Tensor] = {}
    for layer in layers:
        acts |= _hooks(path, layer, by_layer[layer], named.get("positions"))
    shapes = {tuple(rows.shape) for rows in acts.values()}
    if len(shapes) > 1:
        raise DataError(f"{path}: hook points differ in shape: {sorted(shapes)}")
    ((n_rows, _),) = shapes
    ids = named.get("problem_ids", range(n_rows))
    problems = [str(one) for one in (ids.tolist() if isinstance(ids, Tensor) else ids)]
    if len(problems) != n_rows:
        raise DataError(f"{path}: {len(problems)} problem_ids for {n_rows} rows")
    return Ready(acts, problems)


def _json_file(path: Path) -> Path | None:
    """Find the JSON of samples, where that is what `path` holds."""
    files = [path] if path.is_file() else sorted(path.glob("*.json"))
    return next((one for one in files if one.suffix == ".json" and one.name != METADATA), None)


def _named(path: Path) -> dict[str, Any]:
    """Read what the files of tensors hold, by name."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    named: dict[str, Any] = {}
    for file in files:
        for name, value in _file(file).items():
            if name in named:
                raise DataError(f"{file}: {name} is in another file of its folder too")
            named[name] = value
    return named


def _file(path: Path) -> Mapping[str, Any]:
    try:
        match path.suffix:
            case ".npy":
                return {path.stem: torch.from_numpy(np.load(path, mmap_mode="c"))}
            case ".safetensors":
                with safe_open(path, "pt") as file:
                    facts = {
                        name: json.loads(text)
                        for name, text in (file.metadata() or {}).items()
                        if name in FACTS
                    }
                    return facts | {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it has no other way
            case ".pt":
                held = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
                if isinstance(held, dict):
                    return {str(name): value for name, value in held.items()}
                return {path.stem: held}
    except (ValueError, OSError, RuntimeError, UnpicklingError, SafetensorError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(f"{path}: not a readable {path.suffix} file ({reason})") from error
    return read_json(path) if path.name == METADATA else {}


def _layers(path: Path, named: Mapping[str, Any]) -> dict[int, Tensor]:
    """Part the tensors by layer: each [row d_model] or [problem position d_model]."""
    tensors = {
        name: value
        for name, value in named.items()
        if isinstance(value, Tensor) and name not in FACTS
    }
    by_layer = {
        int(match[1]): tensor
        for name, tensor in tensors.items()
        if (match := LAYER.fullmatch(name))
    }
    if not tensors:
        raise DataError(f"{path}: no .npy, .pt, .safetensors or .json of activations")
    if len(by_layer) == len(tensors):
        return by_layer
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    whole = next(iter(tensors.values()))
    if len(tensors) > 1 or whole.ndim not in (3, 4):
        raise DataError(f"{path}: tensors {shapes} are no known layout; {WOULD_DO}")
    numbers = _axis(path, named.get("layers"), "layers", whole.shape[1])
    return dict(zip(numbers, whole.unbind(1), strict=True))


def _hooks(path: Path, layer: int, rows: Tensor, positions: object) -> dict[str, Tensor]:
    """Part a layer's tensor by position, where it has that axis."""
    if not rows.is_floating_point() or rows.ndim not in (2, 3):
        what = f"{rows.dtype} {list(rows.shape)}".removeprefix("torch.")
        raise DataError(f"{path}: layer_{layer} is {what}, no known layout; {WOULD_DO}")
    if rows.ndim == 2:
        return {f"layer_{layer}": rows}
    numbers = _axis(path, positions, "positions", rows.shape[1])
    return {f"layer_{layer}_pos_{n}": rows[:, numbers.index(n)] for n in sorted(numbers)}


def _axis(path: Path, numbers: object, name: str, length: int) -> list[int]:
    """Number an axis."""
    if numbers is None:
        return list(range(length))
    given = numbers.tolist() if isinstance(numbers, Tensor) else numbers
    found = [one for one in given if type(one) is int] if isinstance(given, list) else []
    if found != given or len(set(found)) != length:
        raise DataError(f"{path}: {name} must be {length} different integers, got {given}")
    return found


def _samples(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON's samples; one at a time is in memory."""
    empty = True
    try:
        with path.open("rb") as file:
            for sample in ijson.items(file, "samples.item", use_float=True):
                empty = False
                yield sample
    except ijson.JSONError as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{path}: not JSON ({reason})") from error
    if empty:
        raise DataError(f'{path}: holds no "samples"')


def _thoughts(
    path: Path, number: int, sample: object
) -> dict[int, Float32[np.ndarray, "position d_model"]]:
    """Read a sample's vectors by layer."""
    thoughts = sample.get("thoughts") if isinstance(sample, dict) else None
    try:
        found = {
            int(match[1]): np.array(vectors, dtype=np.float32)
            for name, vectors in (thoughts or {}).items()
            if (match := LAYER.fullmatch(name))
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{path}: sample {number}: thoughts are not lists of vectors") from error
    if not found or any(vectors.ndim != 2 for vectors in found.values()):
        raise DataError(
            f'{path}: sample {number}: has no "thoughts" of "layer_<l>", a list of positions of'
            " d_model numbers each"
        )
    return found


def _spooled(path: Path, layers: Sequence[int], spool: Path) -> dict[str, Any]:
    """Put the JSON's numbers into a file, as one tensor [problem layer position d_model]."""
    problems: list[str] = []
    shape: tuple[int, ...] = ()
    with spool.open("wb") as file:
        for number, sample in enumerate(_samples(path)):
            found = _thoughts(path, number, sample)
            shapes = {found[layer].shape if layer in found else () for layer in layers}
            shape = shape or next(iter(shapes))
            if shapes != {shape}:
                raise DataError(
                    f"{path}: sample {number}: layers {list(layers)} are not each"
                    f" {list(shape)} (positions, d_model), as in the first sample"
                )
            problems.append(str(sample.get("problem_id", sample.get("id", number))))
            file.write(np.stack([found[layer] for layer in layers]).tobytes())
    whole = np.memmap(spool, np.float32, "c", shape=(len(problems), len(layers), *shape))
    return {
        "thoughts": torch.from_numpy(whole),
        "layers": list(layers),
        "problem_ids": problems,
    }


def convert(folder: Path, path: Path, layers: Sequence[int], store: StoreConfig, seed: int) -> None:
    """Write ready-made activations as a store, in bounded memory.

    All rows of a problem are on one side of the split; beside the activations `document_ids` holds
    each row's problem, its place among the sorted ids.

    Raises:
        ConfigError: The disk has no room.
        DataError: A file is not as accepted, has too few problems or holds what is not finite.
    """
    spool = folder / SPOOL
    ready = read_ready(path, layers, spool)
    d_model = next(iter(ready.acts.values())).shape[1]
    form, n_rows = RowFormat(list(ready.acts), d_model, store.dtype), len(ready.problems)
    check_room(folder, n_rows, form)
    ids = {problem: place for place, problem in enumerate(sorted(set(ready.problems)))}
    problems = np.array([ids[problem] for problem in ready.problems], dtype=np.int32)
    if len(ids) < 2:
        raise DataError(f"{path}: holds one problem; training and held-out rows need one each")
    shards = []
    with Meter("converting activations", n_rows) as progress:
        for part, rows in zip(PARTS, split(problems, seed), strict=True):
            for first in range(0, len(rows), store.shard_tokens):
                chosen = rows[first : first + store.shard_tokens]
                name = f"{part}-{first // store.shard_tokens:05d}.safetensors"
                index = {"document_ids": problems[chosen]}
                write_shard(
                    folder / name, form, index, _blocks(path, ready, chosen, store), progress
                )
                shards.append(ShardFacts(name, part, len(chosen)))
    spool.unlink(missing_ok=True)
    write_facts(folder, form, shards)


def split(
    problems: Int32[np.ndarray, " row"], seed: int
) -> tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " heldout"]]:
    """Part rows into those to train on and a fifth of the problems for metrics.

    >>> train, heldout = split(np.array([0, 0, 1, 2, 2], dtype=np.int32), seed=0)
    >>> train.tolist(), heldout.tolist()
    ([0, 1, 2], [3, 4])
    """
    names = np.unique(problems)
    n_heldout = max(round(HELDOUT_FRAC * len(names)), 1)
    chosen = np.random.default_rng(seed).permutation(names)[:n_heldout]
    is_heldout = np.isin(problems, chosen)
    return np.flatnonzero(~is_heldout), np.flatnonzero(is_heldout)


def _blocks(
    source: Path, ready: Ready, rows: Int64[np.ndarray, " row"], store: StoreConfig
) -> Iterator[Float[Tensor, "hook row d_model"]]:
    """Read some rows of all hook points, a block at a time."""
    dtype = torch_dtype(store.dtype)
    for first in range(0, len(rows), BLOCK_ROWS):
        block = torch.from_numpy(rows[first : first + BLOCK_ROWS])
        acts = torch.stack([held[block].to(dtype) for held in ready.acts.values()])
        for hook, found in zip(ready.acts, acts, strict=True):
            if not bool(found.isfinite().all()):
                raise DataError(
                    f"{source}: {hook} holds what is not a finite {store.dtype.name};"
                    " remove it, or set store.dtype=bf16 where it is too large"
                )
        yield acts
