"""The files of the tracks through the answers, as they are written and read."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from safetensors.numpy import load_file
from scipy.sparse import csr_array

from ghosttrack.detector.asking.families.ghosts import KINDS
from ghosttrack.detector.config import Null
from ghosttrack.detector.table import Table
from ghosttrack.detector.tracks.positions import Points
from ghosttrack.files import read_json, write_json
from ghosttrack.pipelines.instruments import save_arrays
from ghosttrack.report.material import TrackView
from ghosttrack.tracking.observations import Observations
from ghosttrack.tracking.tracks import Tracks, continued, persistence

MEASURES = {
    "confirmed": "layers of a confirmed track",
    "every": "layers of any track",
    "hits": "observations of any track",
}
"""How persistence is measured: field of `tracks.Lengths` to the name that reports use. Confirmed
length alone would flatter, as two observations confirm."""

TOKENS, SUBJECT_LATENTS = "tokens.parquet", "subject-latents.safetensors"
LINKS = "links.json"
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
    view: TrackView
    links: Links


def save_tables(folder: Path, tables: Mapping[str, Table], forwards: Mapping[str, float]) -> None:
    """Write every table, and the forward passes that it took beyond the answer's own."""
    for name, table in tables.items():
        table.save(folder / f"{name.replace(':', '-')}.parquet")
    write_json(folder / "tables.json", {name: forwards.get(name, 0.0) for name in tables})


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
    forwards = read_json(folder / "tables.json")
    arrays = load_file(folder / "tracks.safetensors")
    goes_on = Table.load(folder / "continued.parquet")
    subjects = folder / SUBJECT_LATENTS
    return AnswerTracks(
        tables={
            name: Table.load(folder / f"{name.replace(':', '-')}.parquet") for name in forwards
        },
        forwards=forwards,
        probes=load_file(folder / "probes.safetensors")["probes"],
        latents=load_latents(folder / "latents.safetensors", len(layers)),
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
        view=TrackView(
            Tracks.from_arrays(arrays),
            Observations(arrays["latents"], arrays["magnitudes"]),
            tuple(layers),
            read_json(folder / "promotes.json"),
            arrays["push"],
            {kind: arrays[f"stay.{kind}"] for kind in KINDS if f"stay.{kind}" in arrays},
        ),
        links=Links(**read_json(folder / LINKS)),
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
