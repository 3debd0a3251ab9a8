"""Association that must find nothing: the same tracker and settings, on links that mean nothing.

A null is worth beating only if it has every chance to link that the tracker has, save for meaning.

none
    No association: every observation is a track of its own. The floor.
shuffled
    The tracker's own graph, but every link leads to another latent of its layer. Links keep their
    ratio, cosine and costs, so that the null believes in them as firmly; sources keep the number of
    their links; targets are exchanged only among latents that are active about as often *in the
    very samples that are tracked*, so that what is looked for is there as often.
    A graph fitted anew would make this null weaker: it would find that shuffled pairs mean
    nothing, and link nothing. Shuffling the observations of each sample instead would keep the
    number of links of every sample, and so hand the null the co-occurrence that is in question.
random_dictionary
    The graph of random unit directions. Their cosines are replaced, rank for rank, by those of the
    real graph, so that the gate opens for as many; it is fitted anew on the same text, so that this
    null may find out and use which of its arbitrary pairs are active together. What it lacks is
    direction.
permuted_layers
    Depth in another order, observations, directions and text alike; the graph is made anew. The
    order is one in which as few layers as possible keep a neighbour. What it lacks is that layers
    follow one another. A direction that lives in few layers is pulled apart by it, so that its
    tracks span *more* layers and coast over them: compare this null by observations per track, not
    by length.
"""

from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from ghosttrack.tracking.candidates import nearest_candidates
from ghosttrack.tracking.observations import Directions, Observations
from ghosttrack.tracking.tracker import Tracker, fit_on, fit_tracker, link
from ghosttrack.tracking.tracks import Tracks, build_tracks, no_decisions

FREQUENCY_BIN = 8
"""Latents of similar frequency among which the shuffled null exchanges targets."""
ORDER_DRAWS = 200
"""Orders of layers of which the one with the fewest kept neighbours is taken."""


class NullTracks(NamedTuple):
    """Tracks of a null."""

    tracks: Tracks
    order: Int[np.ndarray, "layer"]
    """Layers in the order in which they were tracked: as they come, but by `permuted_layers`."""


def null_tracks(
    kind: Literal["none", "shuffled", "random_dictionary", "permuted_layers"],
    observations: Observations,
    tracker: Tracker,
    directions: Directions,
    text: Observations,
    seed: int,
) -> NullTracks:
    """Track observations by association that means nothing.

    `text` is what the tracker's graph was fitted on; `seed` is of the null's own chance.
    """
    rng, order = np.random.default_rng(seed), np.arange(len(directions))
    if kind == "none":
        decided = no_decisions(observations.latents.shape)
        is_there = observations.latents >= 0
        return NullTracks(build_tracks(is_there, decided, tracker.settings.confirm_hits), order)
    if kind == "shuffled":
        null = _shuffled(tracker, observations, rng)
    elif kind == "random_dictionary":
        null = _random_dictionary(tracker, directions, text, rng)
    else:
        order = _order_without_neighbours(len(directions), rng)
        observations, text = _reorder(observations, order), _reorder(text, order)
        null = fit_tracker(tuple(directions[layer] for layer in order), text, tracker.settings)
    return NullTracks(link(observations, *null), order)


def _shuffled(tracker: Tracker, observations: Observations, rng: np.random.Generator) -> Tracker:
    """Lead every link to another, equally frequent latent; ratios and costs go with the link."""
    graph = tracker.graph
    latents, birth = graph.latents.copy(), graph.birth.copy()
    stand_in = [
        _exchange(observations.latents[:, layer], graph.d_sae, rng)
        for layer in range(graph.n_layers)
    ]
    for pair, (layer, gap) in enumerate(graph.pairs):
        latents[pair] = stand_in[layer + gap][graph.latents[pair]]
    for layer, exchanged in enumerate(stand_in):
        birth[layer, exchanged] = graph.birth[layer]
    return tracker._replace(graph=replace(graph, latents=latents, birth=birth))


def _exchange(
    latents: Int[np.ndarray, "sample obs"], d_sae: int, rng: np.random.Generator
) -> Int[np.ndarray, "d_sae"]:
    """For every latent another one that is active about as often; each stands in for one."""
    count = np.bincount(latents[latents >= 0], minlength=d_sae)
    by_count = np.lexsort((rng.random(d_sae), count))
    stand_in = np.empty(d_sae, np.int64)
    for members in np.array_split(by_count, max(d_sae // FREQUENCY_BIN, 1)):
        circle = rng.permutation(members)
        stand_in[circle] = np.roll(circle, 1)
    return stand_in


def _random_dictionary(
    tracker: Tracker, directions: Directions, text: Observations, rng: np.random.Generator
) -> Tracker:
    """Fit the tracker to candidates by random directions with the real graph's cosines."""
    real = tracker.graph
    drawn = tuple(rng.standard_normal(rows.shape, np.float32) for rows in directions)
    unit = tuple(rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in drawn)
    candidates = nearest_candidates(unit, real.max_gap, real.latents.shape[2])
    cosines = real.cosines.copy()
    for pair, ranks in enumerate(candidates.cosines):
        # the real values in the order of the drawn ones
        cosines[pair].reshape(-1)[np.argsort(ranks, axis=None)] = np.sort(
            real.cosines[pair], axis=None
        )
    return fit_on(replace(candidates, cosines=cosines, gates=real.gates), text, tracker.settings)


def _order_without_neighbours(n_layers: int, rng: np.random.Generator) -> Int[np.ndarray, "layer"]:
    """An order of layers in which as few as possible stand beside a layer that they touched."""
    orders = [rng.permutation(n_layers) for _ in range(ORDER_DRAWS)]
    return min(orders, key=lambda order: int((np.abs(np.diff(order)) == 1).sum()))


def _reorder(observations: Observations, order: Int[np.ndarray, "layer"]) -> Observations:
    """Exchange layers."""
    return Observations(observations.latents[:, order], observations.magnitudes[:, order])
