"""Planted worlds and hand-made trackers that the tests of this folder share."""

from functools import cache
from typing import NamedTuple

import numpy as np

from ghosttrack.tracking.candidates import layer_pairs
from ghosttrack.tracking.graph import AssociationGraph
from ghosttrack.tracking.kalman import silent
from ghosttrack.tracking.nulls import NullTracks, null_tracks
from ghosttrack.tracking.observations import Observations, TrackerSettings
from ghosttrack.tracking.tracker import Tracker, fit_tracker
from tests.tracking.planted import PlantedSamples, PlantedSpec, PlantedWorld, plant, sample

SETTINGS = TrackerSettings(
    gate=0.5,
    max_misses=2,
    confirm_hits=2,
    association="hungarian",
    hypotheses=3,
    clues=frozenset({"coactivation", "magnitude"}),
)


class Planted(NamedTuple):
    world: PlantedWorld
    text: Observations
    test: PlantedSamples
    tracker: Tracker


MODERATE = PlantedSpec()


@cache
def planted(spec: PlantedSpec = MODERATE) -> Planted:
    rng = np.random.default_rng(0)
    world = plant(spec, rng)
    text = sample(world, 1000, rng).observations
    tracker = fit_tracker(world.directions, text, SETTINGS)
    return Planted(world, text, sample(world, 200, rng), tracker)


def null_of(fitted: Planted, kind: str, seed: int = 0) -> NullTracks:
    """Tracks of the test samples under a null."""
    world, text, test, tracker = fitted
    return null_tracks(kind, test.observations, tracker, world.directions, text, seed)


def drawn(
    rng: np.random.Generator, n_samples: int, n_layers: int, n_slots: int, d_sae: int, share: float
) -> Observations:
    """Random latents of random magnitude in this share of all slots."""
    latents = rng.permuted(np.broadcast_to(np.arange(d_sae), (n_samples, n_layers, d_sae)), axis=2)[
        ..., :n_slots
    ]
    latents = np.where(rng.random(latents.shape) < share, latents, -1)
    return Observations(latents, rng.normal(size=latents.shape))


def flat_tracker(n_layers: int, d_sae: int, ratios: np.ndarray, **settings) -> Tracker:
    """Every latent links to every latent with `ratios[i, j]` at gap 1, 1 less per layer coasted.

    A miss and a birth cost 0, magnitudes say nothing.
    """
    chosen = SETTINGS._replace(gate=-1.0, **settings)
    max_gap = chosen.max_misses + 1
    pairs = layer_pairs(n_layers, max_gap)
    latents = np.tile(np.arange(d_sae, dtype=np.int32), (len(pairs), d_sae, 1))
    link = np.array([ratios - (gap - 1) for _, gap in pairs], np.float32).reshape(latents.shape)
    layers = np.zeros((n_layers, d_sae), np.float32)
    graph = AssociationGraph(
        latents=latents,
        cosines=np.ones(latents.shape, np.float32),
        gates=np.full(len(pairs), np.nan),
        n_layers=n_layers,
        max_gap=max_gap,
        link=link,
        miss=np.zeros(link.shape[:2], np.float32),
        birth=layers,
        mean=layers,
        deviation=layers + 1,
        **silent(len(pairs), n_layers)._asdict(),
    )
    return Tracker(graph, chosen)


def seen(*layers: tuple[int, ...]) -> Observations:
    """One sample that shows these latents per layer, with magnitude 0; -1 is an empty slot."""
    latents = np.array([layers])
    return Observations(latents, np.zeros(latents.shape))
