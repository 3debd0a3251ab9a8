"""A world whose tracks are known: what the tracker must recover before it is believed elsewhere.

Concepts keep a direction that drifts from layer to layer. In a sample a concept is born at some
layer, lives on for a geometric number of layers, and is observed with some probability, with a
magnitude that follows an autoregression over depth. Clutter is what is observed and is no living
concept: other concepts' latents and latents that belong to no concept. Latent numbers are shuffled
per layer, so that nothing but direction, company and magnitude tells who is who.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ghosttrack.tracking.assign import Edges, assign
from ghosttrack.tracking.observations import Directions, Observations
from ghosttrack.tracking.tracks import Tracks


class PlantedSpec(NamedTuple):
    """Size and difficulty; the defaults are the moderate clutter of the tests."""

    n_layers: int = 8
    d_model: int = 64
    n_concepts: int = 160
    n_fillers: int = 160
    """Latents per layer that belong to no concept."""
    n_living: int = 20
    """Concepts per sample, at most as many as slots allow."""
    n_slots: int = 32
    drift: float = 0.3
    """Length of the random step that a unit direction takes per layer."""
    crowding: float = 0.0
    """Share of its direction that a concept has in common with its neighbour, 0..1."""
    birth_spread: float = 0.3
    """Share of a sample's concepts that are born below layer 0."""
    survival: float = 0.9
    """Chance per layer to live on."""
    detection: float = 0.9
    """Chance per layer of a living concept to be observed."""
    clutter: float = 4.0
    """Mean number of clutter observations per layer."""
    memory: float = 0.9
    """Correlation of a concept's magnitude between adjacent layers, about its own mean."""


class PlantedWorld(NamedTuple):
    """Directions of a bank, and who is who in every latent."""

    spec: PlantedSpec
    directions: Directions
    latent_of: Int[np.ndarray, "layer concept_or_filler"]
    """Latent number of every concept, then of every filler."""
    strength: Float[np.ndarray, "concept_or_filler"]
    """Mean magnitude."""


class PlantedSamples(NamedTuple):
    """Observations and the truth about them."""

    observations: Observations
    truth: Int[np.ndarray, "sample layer obs"]
    """Number of the concept, unique over the batch; -1 for clutter and empty slots."""


def plant(spec: PlantedSpec, rng: np.random.Generator) -> PlantedWorld:
    """Draw the directions of every layer."""
    n_latents = spec.n_concepts + spec.n_fillers
    concept = _unit(rng.standard_normal((spec.n_concepts, spec.d_model)))
    concept = _unit((1 - spec.crowding) * concept + spec.crowding * np.roll(concept, 1, axis=0))
    latent_of = np.stack([rng.permutation(n_latents) for _ in range(spec.n_layers)])
    directions = []
    for layer in range(spec.n_layers):
        filler = _unit(rng.standard_normal((spec.n_fillers, spec.d_model)))
        rows = np.empty((n_latents, spec.d_model), np.float32)
        rows[latent_of[layer]] = np.concatenate([concept, filler])
        directions.append(rows)
        step = _unit(rng.standard_normal(concept.shape))
        concept = _unit(concept + spec.drift * step)
    return PlantedWorld(spec, tuple(directions), latent_of, rng.standard_normal(n_latents))


def sample(world: PlantedWorld, n_samples: int, rng: np.random.Generator) -> PlantedSamples:
    """Draw samples of the world, with the slots of every layer in random order."""
    spec = world.spec
    size = (n_samples, spec.n_layers, spec.n_concepts)
    alive = _alive(spec, n_samples, rng)
    seen = alive & (rng.random(size) < spec.detection)
    magnitude = _magnitudes(spec, n_samples, rng)
    n_latents = world.latent_of.shape[1]
    is_clutter = rng.random((n_samples, spec.n_layers, n_latents)) < spec.clutter / n_latents
    is_clutter[..., : spec.n_concepts] &= ~alive
    is_there = is_clutter.copy()
    is_there[..., : spec.n_concepts] |= seen
    priority = rng.random(is_there.shape) + is_there
    who = np.argsort(-priority, axis=-1)[..., : spec.n_slots]
    there = np.take_along_axis(is_there, who, axis=-1)
    latents = np.take_along_axis(world.latent_of[None], who, axis=-1)
    values = np.take_along_axis(magnitude + world.strength, who, axis=-1)
    truth = np.arange(n_samples)[:, None, None] * n_latents + who
    is_true = there & ~np.take_along_axis(is_clutter, who, axis=-1)
    observations = Observations(np.where(there, latents, -1), np.where(there, values, 0.0))
    return PlantedSamples(observations, np.where(is_true, truth, -1))


def _alive(
    spec: PlantedSpec, n_samples: int, rng: np.random.Generator
) -> Bool[np.ndarray, "sample layer concept"]:
    """Which concepts live where; frequent concepts live in many samples, rare ones in few."""
    rarity = np.log(np.arange(1, spec.n_concepts + 1)) / 2
    keys = rng.gumbel(size=(n_samples, spec.n_concepts)) - rarity
    order = np.argsort(-keys, axis=1)
    is_present = np.zeros((n_samples, spec.n_concepts), bool)
    np.put_along_axis(is_present, order[:, : spec.n_living], True, axis=1)
    is_late = rng.random(is_present.shape) < spec.birth_spread
    birth = is_late * rng.integers(1, spec.n_layers - 1, is_present.shape)
    n_alive = rng.geometric(1 - spec.survival, is_present.shape)
    depth = np.arange(spec.n_layers)[:, None]
    lives = (depth >= birth[:, None]) & (depth < (birth + n_alive)[:, None])
    return is_present[:, None] & lives


def _magnitudes(
    spec: PlantedSpec, n_samples: int, rng: np.random.Generator
) -> Float[np.ndarray, "sample layer concept_or_filler"]:
    """Deviations from the mean magnitude: unit variance, correlated over depth for concepts."""
    noise = rng.standard_normal((n_samples, spec.n_layers, spec.n_concepts + spec.n_fillers))
    values = noise.copy()
    concepts = slice(0, spec.n_concepts)
    for layer in range(1, spec.n_layers):
        values[:, layer, concepts] = (
            spec.memory * values[:, layer - 1, concepts]
            + np.sqrt(1 - spec.memory**2) * noise[:, layer, concepts]
        )
    return values


def _unit(rows: Float[np.ndarray, "row d_model"]) -> Float[np.ndarray, "row d_model"]:
    """Rows of length 1."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class TrackingScores(NamedTuple):
    """How well tracks recover the truth.

    Reported are the observations of confirmed tracks, wanted are those of the truth. What was never
    observed is neither: the tracker cannot report it.
    """

    idf1: float
    """Identity F1 (Ristani et al. 2016): 2 IDTP / (reported + wanted), IDTP the observations
    on which truth and tracks agree under the best one-to-one matching of identities; 0..1."""
    mota: float
    """1 - (misses + false reports + identity switches) / wanted (Bernardin & Stiefelhagen 2008);
    at most 1, unbounded below."""


def score(truth: Int[np.ndarray, "sample layer obs"], tracks: Tracks) -> TrackingScores:
    """Compare tracks with the truth.

    Args:
        truth: Identity of every observation, unique over the batch; -1 for clutter and empty slots.
        tracks: Of the same observations.
    """
    owner = tracks.track_of
    is_reported = (owner >= 0) & np.append(tracks.confirmed, False)[owner]
    is_wanted = truth >= 0
    both = is_reported & is_wanted
    pairs, together = np.unique(
        np.stack([truth[both], owner[both]], axis=1), axis=0, return_counts=True
    )
    identity = np.unique(pairs[:, 0], return_inverse=True)[1]
    matched = assign(Edges(identity, pairs[:, 1], together.astype(float)), optimal=True)
    n_wanted, n_reported = int(is_wanted.sum()), int(is_reported.sum())
    faults = (is_wanted & ~is_reported).sum() + (is_reported & ~is_wanted).sum()
    faults += _switches(truth, owner, both)
    return TrackingScores(
        idf1=float(2 * together[matched].sum() / max(n_wanted + n_reported, 1)),
        mota=float(1 - faults / max(n_wanted, 1)),
    )


def _switches(
    truth: Int[np.ndarray, "sample layer obs"],
    owner: Int[np.ndarray, "sample layer obs"],
    both: Bool[np.ndarray, "sample layer obs"],
) -> int:
    """Times that a true identity is reported under another track than the last time."""
    sample, layer, slot = np.nonzero(both)
    identity, track = truth[sample, layer, slot], owner[sample, layer, slot]
    order = np.lexsort((layer, identity))
    same = np.diff(identity[order]) == 0
    return int((same & (np.diff(track[order]) != 0)).sum())
