"""The files of the tracks through the answers, as they are written and read."""

from collections.abc import Mapping, Sequence
from itertools import compress, pairwise
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float
from safetensors.numpy import load_file
from scipy.sparse import csr_array, vstack

from ghosttrack.detector.asking.families.ghosts import KINDS
from ghosttrack.detector.config import Null
from ghosttrack.detector.table import Table
from ghosttrack.detector.tracks.life_cycle import LengthNull
from ghosttrack.detector.tracks.positions import Points
from ghosttrack.files import fsync, read_json, write_json
from ghosttrack.pipelines.instruments import save_arrays
from ghosttrack.report.contents import TrackView
from ghosttrack.tracking.observations import Observations
from ghosttrack.tracking.tracks import Tracks, continued, persistence

MEASURES = {
    "confirmed": "layers of a confirmed track",
    "every": "layers of any track",
    "hits": "observations of any track",
}
"""How persistence is measured: field of `tracks.Lengths` to the name that reports use. Confirmed
length alone would flatter, as two observations confirm."""

PROBES, LATENTS = "probes.safetensors", "latents.safetensors"
TOKENS, SUBJECT_LATENTS = "tokens.parquet", "subject-latents.safetensors"
LINKS, FORWARDS = "links.json", "tables.json"
VIEW, PROMOTES = "tracks.safetensors", "promotes.json"
"""What reports draw; in each block's folder where answers were tracked by turns."""
BLOCK = "block-"
LENGTHS = "lengths.json"
"""What lengths chance gives, written last: a block is finished while it holds this file."""
BY_SAMPLE = frozenset({"track_of", "link_llr", "innovation", "latents", "magnitudes"})
"""Arrays of `VIEW` with a row per answer; the others have one per track."""
BY_LAYER = ("tracks", f"null:{Null.shuffled.name}")
"""Tracks whose share of continued observations is kept for every layer."""


LEAST_LINKED = 0.01
"""Share of latents with a partner, beyond what chance gives, below which layers count as unlinked.
"""


class Links(NamedTuple):
    """Whether the bank's layers have anything to do with one another."""

    partners: float
    """Share of the latents with a candidate at the next layer looked at that passes the gate."""
    longest: int
    """Layers of the longest track."""
    gates: tuple[float, ...]
    """Least cosine of a link, of every layer and the next."""

    def caution(self, layers: Sequence[int], *, by_chance: float) -> str:
        """Say in one line that tracks mean nothing, why, and what would do; "" where they do.

        Args:
            layers: Blocks whose latents were tracked, ascending.
            by_chance: Share of the latents that would have a partner were they unrelated.
        """
        if (self.longest > 1 and self.partners - by_chance >= LEAST_LINKED) or len(layers) < 2:
            return ""
        cosines = " to ".join(f"{gate:.2f}" for gate in sorted({*_ends(self.gates)}))
        found = (
            f"no links between layers {list(layers)}: {100 * self.partners:.1f} % of the latents"
            f" have a partner of cosine {cosines} at the next layer, the longest track has"
            f" {self.longest} of {len(layers)} layers; statistics of tracks say nothing here"
        )
        apart = max(b - a for a, b in pairwise(layers))
        if apart == 1:
            return f"{found}; a bank that reads more text (corpus.num_tokens) may find some"
        first = round((layers[0] + layers[-1] - len(layers) + 1) / 2)
        near = ",".join(map(str, range(first, first + len(layers))))
        return f"{found}, as the layers lie up to {apart} blocks apart; try layers=[{near}]"


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return round(min(values), 2), round(max(values), 2)


class AnswerTracks(NamedTuple):
    """Everything that one pass over the answers' prompts left."""

    tables: Mapping[str, Table]
    """`lens`, `tracks`, `null:<kind>`, and `untrained` where the model is small enough."""
    probes: Float[np.ndarray, "layer sample d_model"]
    latents: list[csr_array]
    forwards: Mapping[str, float]
    """Table to the forward passes that it took beyond the one over the prompts."""
    persistence: Mapping[str, Mapping[str, Float[np.ndarray, " sample"]]]
    """Each of `MEASURES` under `tracks` and each `null:<kind>`, and under those of `BY_LAYER` the
    share of every layer's observations that go on."""
    tokens: Table | None
    """A row per token of own answers: output scores so far, statistics of tracks where it was
    predicted. None where others wrote the answers."""
    subject_latents: list[csr_array]
    """As `latents`, at the last token of the subject's name; none where no prompt holds one."""
    causal: Table
    """Links tried by ablation on held-out text, as in `detector.causal`."""
    links: Links


def save_tables(folder: Path, tables: Mapping[str, Table], forwards: Mapping[str, float]) -> None:
    """Write every table, and the forward passes that it took beyond the answer's own."""
    for name, table in tables.items():
        table.save(folder / f"{name.replace(':', '-')}.parquet")
    write_json(folder / FORWARDS, {name: forwards.get(name, 0.0) for name in tables})


def save_persistence(
    folder: Path, tracks: Mapping[str, Tracks], points: Points, layers: Sequence[int]
) -> None:
    """Write how long tracks last, and what share of a layer's observations goes on."""
    per_point = [persistence(one) for one in tracks.values()]
    for field in MEASURES:
        columns = [getattr(lengths, field).astype(np.float64) for lengths in per_point]
        table = Table(tuple(tracks), points.mean(np.stack(columns, axis=1)))
        table.save(folder / f"persistence-{field}.parquet")
    names = tuple(f"{name}/{layer}" for name in BY_LAYER for layer in layers)
    shares = np.concatenate([continued(tracks[name]) for name in BY_LAYER], axis=1)
    Table(names, points.mean(shares)).save(folder / "continued.parquet")


def save_latents(path: Path, tables: Sequence[csr_array]) -> None:
    """Write one sparse table per layer."""
    arrays = {
        f"{part}.{layer}": getattr(table, part)
        for layer, table in enumerate(tables)
        for part in ("data", "indices", "indptr")
    }
    shapes = {f"shape.{layer}": np.array(table.shape) for layer, table in enumerate(tables)}
    save_arrays(path, {**arrays, **shapes})


def read_tracks(layers: Sequence[int], folder: Path) -> AnswerTracks:
    """Read what `tracks.write_tracks` left."""
    forwards = read_json(folder / FORWARDS)
    goes_on = Table.load(folder / "continued.parquet")
    subjects = folder / SUBJECT_LATENTS
    return AnswerTracks(
        tables={
            name: Table.load(folder / f"{name.replace(':', '-')}.parquet") for name in forwards
        },
        forwards=forwards,
        probes=load_file(folder / PROBES)["probes"],
        latents=load_latents(folder / LATENTS, len(layers)),
        persistence={
            measure: _columns(Table.load(folder / f"persistence-{field}.parquet"))
            for field, measure in MEASURES.items()
        }
        | {
            f"share of layer {layer} that goes on": {
                name: goes_on.column(f"{name}/{layer}") for name in BY_LAYER
            }
            for layer in layers[:-1]
        },
        tokens=Table.load(folder / TOKENS) if (folder / TOKENS).is_file() else None,
        subject_latents=load_latents(subjects, len(layers)) if subjects.is_file() else [],
        causal=Table.load(folder / "causal.parquet"),
        links=Links(**read_json(folder / LINKS)),
    )


def block_folders(folder: Path, n_blocks: int = 0) -> list[Path]:
    """Name the folders of so many blocks of answers; 0: of those that are there, or the folder."""
    if n_blocks:
        return [folder / f"{BLOCK}{number:04d}" for number in range(n_blocks)]
    return sorted(folder.glob(f"{BLOCK}*")) or [folder]


def finish(block: Path, lengths: LengthNull) -> None:
    """Mark a block's files as whole, once the disk has them."""
    for file in block.iterdir():
        fsync(file)
    write_json(block / LENGTHS, lengths._asdict())


def is_finished(block: Path) -> bool:
    """Tell whether a block's files are whole, whoever wrote them."""
    return (block / LENGTHS).is_file()


def chance_lengths(block: Path) -> LengthNull:
    """Read what lengths chance gives in a finished block."""
    return LengthNull(**read_json(block / LENGTHS))


def reopen(blocks: Sequence[Path]) -> None:
    """Take the marks away before files are joined: what a kill leaves then counts as unfinished."""
    for block in blocks:
        (block / LENGTHS).unlink()


def join_blocks(folder: Path, blocks: Sequence[Path], n_layers: int) -> None:
    """Set what was found in blocks of answers one below another; blocks keep what reports draw.

    A block in which no prompt holds its subject has NaN there, and no latents.
    """
    sizes = [pq.read_metadata(block / "tracks.parquet").num_rows for block in blocks]
    for name in dict.fromkeys(file.name for block in blocks for file in block.glob("*.parquet")):
        held = [Table.load(one) if (one := block / name).is_file() else None for block in blocks]
        names = next(table.names for table in held if table is not None)
        values = [
            np.full((n, len(names)), np.nan) if table is None else table.values
            for n, table in zip(sizes, held, strict=True)
        ]
        Table(names, np.concatenate(values)).save(folder / name)
    passes = [read_json(block / FORWARDS) for block in blocks]
    forwards = {
        name: float(np.average([one.get(name, 0.0) for one in passes], weights=sizes))
        for name in dict.fromkeys(name for one in passes for name in one)
    }
    write_json(folder / FORWARDS, forwards)
    links = [Links(**read_json(block / LINKS)) for block in blocks]
    longest = max(one.longest for one in links)
    write_json(folder / LINKS, links[0]._replace(longest=longest)._asdict())
    probes = [load_file(block / PROBES)["probes"] for block in blocks]
    save_arrays(folder / PROBES, {"probes": np.concatenate(probes, axis=1)})
    for name in (LATENTS, SUBJECT_LATENTS):
        found = [
            load_latents(one, n_layers) if (one := block / name).is_file() else []
            for block in blocks
        ]
        if not any(found):
            continue
        (first, *_), *_ = filter(None, found)
        _, width = cast("tuple[int, int]", first.shape)
        rows = [
            one or [csr_array((n, width), dtype=first.dtype)] * n_layers
            for n, one in zip(sizes, found, strict=True)
        ]
        save_latents(folder / name, [csr_array(vstack(one)) for one in zip(*rows, strict=True)])
    for file in (file for block in blocks for file in block.iterdir()):
        if file.name not in (VIEW, PROMOTES):
            file.unlink()


def read_view(folder: Path, layers: Sequence[int], answers: Sequence[int]) -> TrackView:
    """Read the tracks of some answers, ascending, as reports draw them."""
    parts, promotes, first, n_tracks = [], [], 0, 0
    for block in block_folders(folder):
        arrays = load_file(block / VIEW)
        n = len(arrays["track_of"])
        rows = np.array([one - first for one in answers if first <= one < first + n], dtype=int)
        is_kept = np.isin(arrays["sample"], rows)
        number = np.append(np.where(is_kept, np.cumsum(is_kept) - 1 + n_tracks, -1), -1)
        cut = {
            name: held[rows] if name in BY_SAMPLE else held[is_kept]
            for name, held in arrays.items()
        }
        cut |= {name: number[cut[name]] for name in ("track_of", "parent", "merged_into")}
        cut["sample"] = np.searchsorted(rows, cut["sample"]) + sum(
            len(p["track_of"]) for p in parts
        )
        promotes += compress(read_json(block / PROMOTES), is_kept)
        parts.append(cut)
        first, n_tracks = first + n, len(promotes)
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return TrackView(
        Tracks.from_arrays(arrays),
        Observations(arrays["latents"], arrays["magnitudes"]),
        tuple(layers),
        promotes,
        arrays["push"],
        {kind: arrays[f"stay.{kind}"] for kind in KINDS if f"stay.{kind}" in arrays},
        answers=tuple(answers),
    )


def load_latents(path: Path, n_layers: int) -> list[csr_array]:
    """Read the active latents of every answer, an array per layer."""
    arrays = load_file(path)
    return [
        csr_array(
            tuple(arrays[f"{part}.{layer}"] for part in ("data", "indices", "indptr")),
            shape=tuple(arrays[f"shape.{layer}"].tolist()),
        )
        for layer in range(n_layers)
    ]


def _columns(table: Table) -> dict[str, Float[np.ndarray, " sample"]]:
    return {name: table.column(name) for name in table.names}
