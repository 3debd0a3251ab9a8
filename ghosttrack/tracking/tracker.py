"""Link observations over depth: thousands of samples in one call."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from ghosttrack.tracking.assign import assign
from ghosttrack.tracking.candidates import (
    Candidates,
    chunks,
    identity_candidates,
    nearest_candidates,
    unrelated_gates,
)
from ghosttrack.tracking.graph import AssociationGraph, fit_graph
from ghosttrack.tracking.hypotheses import best_hypothesis
from ghosttrack.tracking.kalman import fit_filter
from ghosttrack.tracking.observations import Directions, Observations, TrackerSettings
from ghosttrack.tracking.tracks import Decisions, Tracks, build_tracks, no_decisions
from ghosttrack.tracking.trellis import Possible, Trellis, cut

FILTER_SAMPLES, FILTER_ROUNDS = 1024, 6
"""Samples of the text that the filter is fitted on, and how often: each round on the tracks that
the tracker makes with the one before, the first without magnitudes. More rounds gain under 0.1 % in
likelihood on held-out text of the embedded model."""


class Tracker(NamedTuple):
    """All that `link` needs beside observations: `link(observations, *tracker)`."""

    graph: AssociationGraph
    settings: TrackerSettings
    """Those that the graph was fitted with."""


def fit_tracker(directions: Directions, text: Observations, settings: TrackerSettings) -> Tracker:
    """Find the candidates that the settings ask for and fit their graph on unlabelled text."""
    max_gap = settings.max_misses + 1
    if settings.association == "identity":
        return fit_on(identity_candidates(directions, max_gap), text, settings)
    found = nearest_candidates(directions, max_gap)
    if settings.gate is None:
        found = replace(found, gates=unrelated_gates(directions, max_gap))
    return fit_on(found, text, settings)


def fit_on(candidates: Candidates, text: Observations, settings: TrackerSettings) -> Tracker:
    """Fit the graph, then the magnitudes' filter on the tracks that are found so far."""
    graph = fit_graph(candidates, text, settings)
    some = Observations(*(values[:FILTER_SAMPLES] for values in text))
    magnitudes = np.stack([graph.standardise(some, at) for at in range(graph.n_layers)], axis=1)
    kind = "hungarian" if settings.association == "murty" else settings.association
    for _ in range(FILTER_ROUNDS if "magnitude" in settings.clues else 1):
        found = link(some, graph, settings._replace(association=kind))
        graph = replace(graph, **fit_filter(found, magnitudes, graph.pairs)._asdict())
    return Tracker(graph, settings)


def link(observations: Observations, graph: AssociationGraph, settings: TrackerSettings) -> Tracks:
    """Link every sample's observations into tracks, from the first layer to the last.

    A track is the chain of its observations; its state is the last of them, with what the filter
    makes of all their magnitudes. At every layer the live tracks, observed there or up to
    `max_misses` layers before and not continued since, compete for the layer's observations by the
    strategy of their association (`STRATEGIES`); what is left over are misses and births. A track
    dies when it has coasted `max_misses` layers or the model ends. By the identity association
    every link to the same index pays, the nearest layer's first.
    """
    n_samples, n_layers, _ = observations.latents.shape
    assert n_layers == graph.n_layers, f"{n_layers} layers observed, {graph.n_layers} in the graph"
    assert graph.max_gap > settings.max_misses, "the graph is too short for max_misses"
    targets = graph.open_targets(settings)
    decided = no_decisions(observations.latents.shape)
    for chunk in chunks(n_samples, graph.d_sae):
        part = Observations(observations.latents[chunk], observations.magnitudes[chunk])
        trellis = Trellis(graph, settings, targets, cut(part, graph))
        _associate(trellis, Decisions(*(values[chunk] for values in decided)))
    return build_tracks(observations.latents >= 0, decided, settings.confirm_hits)


Choose = Callable[[int, Possible], Bool[np.ndarray, "link"]]
"""Marks the links to make, given a layer and the possible links into it."""


def hungarian(trellis: Trellis) -> Choose:
    """Reach the greatest total gain of every layer."""
    return lambda _, possible: assign(trellis.edges(possible), optimal=True)


def greedy(trellis: Trellis) -> Choose:
    """Take the best link first."""
    return lambda _, possible: assign(trellis.edges(possible), optimal=False)


def murty(trellis: Trellis) -> Choose:
    """Make the links of the best of several hypotheses about all layers."""
    wanted = best_hypothesis(trellis)

    def choose(layer: int, possible: Possible) -> Bool[np.ndarray, "link"]:
        source, target = trellis.places(layer, possible)
        return wanted.reshape(-1)[target.flat] == source.in_sample

    return choose


STRATEGIES: dict[str, Callable[[Trellis], Choose]] = {
    "hungarian": hungarian,
    "greedy": greedy,
    "identity": greedy,
    "murty": murty,
}


def _associate(trellis: Trellis, decided: Decisions) -> None:
    """Decide a chunk layer after layer; writes into `decided`."""
    choose = STRATEGIES[trellis.settings.association](trellis)
    for layer in range(1, len(trellis.layers)):
        possible = trellis.possible(layer)
        is_chosen = choose(layer, possible)
        made = possible.at(np.flatnonzero(is_chosen))
        trellis.link(layer, made)
        source, target = trellis.places(layer, made)
        decided.predecessor.reshape(-1)[target.flat] = source.in_sample
        decided.link_llr.reshape(-1)[target.flat] = made.llr
        decided.innovation.reshape(-1)[target.flat] = made.innovation
        _record_relatives(decided, trellis, layer, possible.at(np.flatnonzero(~is_chosen)))


def _record_relatives(decided: Decisions, trellis: Trellis, layer: int, unmade: Possible) -> None:
    """Write splits and merges down: links that would have paid, had one end not been taken.

    A birth is a split if a continued track explains it better than chance and a birth do. The end
    of a track is a merge if a taken observation explains it better than chance and a miss do; of
    several, the first layer counts, and in it the likeliest.
    """
    unmade = unmade.at(np.argsort(unmade.llr, kind="stable"))
    source, target = trellis.places(layer, unmade)
    is_birth = decided.predecessor.reshape(-1)[target.flat] < 0
    splits = is_birth & (unmade.llr + unmade.birth > 0)
    decided.split_from.reshape(-1)[target.flat[splits]] = source.in_sample[splits]
    is_end = decided.merge_to.reshape(-1)[source.flat] < 0
    for gap in range(1, layer + 1):
        of_gap = np.flatnonzero(unmade.gap == gap)
        is_end[of_gap] &= trellis.layers[layer - gap].is_live.reshape(-1)[unmade.source[of_gap]]
    merges = ~is_birth & is_end & (unmade.llr + unmade.miss > 0)
    decided.merge_to.reshape(-1)[source.flat[merges]] = target.in_sample[merges]
