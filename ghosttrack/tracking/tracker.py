"""Link observations over depth: thousands of samples in one call."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ghosttrack.tracking.kalman import fit_filter
from ghosttrack.tracking.likelihood import Likelihood
from ghosttrack.tracking.links import LinkGraph, identity_graph, link_graph
from ghosttrack.tracking.lookup import chunks, open_targets
from ghosttrack.tracking.observations import Arrays, Directions, Observations, TrackerSettings
from ghosttrack.tracking.strategies import STRATEGIES
from ghosttrack.tracking.tracks import Decisions, Tracks, build_tracks, no_decisions
from ghosttrack.tracking.trellis import Possible, Trellis, cut

FILTER_SAMPLES, FILTER_ROUNDS = 1024, 6
"""Samples of the text that the filter is fitted on, and how often: each round on the tracks that
the tracker makes with the one before, the first without magnitudes. More rounds gain under 0.1 % in
likelihood on held-out text of the embedded model."""


class Tracker(NamedTuple):
    """All that `link` needs beside observations: `link(observations, *tracker)`."""

    links: LinkGraph
    likelihood: Likelihood
    settings: TrackerSettings

    def arrays(self) -> Arrays:
        """Plain arrays that `from_arrays` reads back, settings left out."""
        graph = {f"links.{name}": values for name, values in self.links.arrays().items()}
        fitted = {f"likelihood.{name}": values for name, values in self.likelihood.arrays().items()}
        return graph | fitted

    @classmethod
    def from_arrays(cls, arrays: Arrays, settings: TrackerSettings) -> "Tracker":
        """Inverse of `arrays`; the settings must be those that it was fitted with."""
        parts = {
            part: {
                name.removeprefix(part): values
                for name, values in arrays.items()
                if name.startswith(part)
            }
            for part in ("links.", "likelihood.")
        }
        links = LinkGraph.from_arrays(parts["links."])
        return cls(links, Likelihood.from_arrays(parts["likelihood."]), settings)


def fit_tracker(directions: Directions, text: Observations, settings: TrackerSettings) -> Tracker:
    """Make the link graph that the settings ask for and fit the likelihood on unlabelled text."""
    graph = identity_graph if settings.association == "identity" else link_graph
    return fit_on(graph(directions, settings.max_misses + 1), text, settings)


def fit_on(links: LinkGraph, text: Observations, settings: TrackerSettings) -> Tracker:
    """Fit the likelihood, then the magnitudes' filter on the tracks that are found so far."""
    tracker = Tracker(links, Likelihood.fit(text, links, settings), settings)
    some = Observations(*(values[:FILTER_SAMPLES] for values in text))
    layers = range(links.n_layers)
    magnitudes = np.stack([tracker.likelihood.standardise(some, layer) for layer in layers], axis=1)
    kind = "hungarian" if settings.association == "murty" else settings.association
    for _ in range(FILTER_ROUNDS if "magnitude" in settings.clues else 1):
        found = link(some, links, tracker.likelihood, settings._replace(association=kind))
        fitted = fit_filter(found, magnitudes, links.pairs)
        tracker = tracker._replace(likelihood=replace(tracker.likelihood, **fitted._asdict()))
    return tracker


def link(
    observations: Observations,
    links: LinkGraph,
    likelihood: Likelihood,
    settings: TrackerSettings,
) -> Tracks:
    """Link every sample's observations into tracks, from the first layer to the last.

    A track is the chain of its observations; its state is the last of them, with what the filter
    makes of all their magnitudes. At every layer the live tracks, observed there or up to
    `max_misses` layers before and not continued since, compete for the layer's observations by the
    strategy of their association (`strategies`); what is left over are misses and births. A track
    dies when it has coasted `max_misses` layers or the model ends. By the identity association
    every link to the same index pays, the nearest layer's first.
    """
    n_samples, n_layers, _ = observations.latents.shape
    assert n_layers == links.n_layers, f"{n_layers} layers observed, links have {links.n_layers}"
    assert links.max_gap > settings.max_misses, "the link graph is too short for max_misses"
    targets = open_targets(links, settings)
    decided = no_decisions(observations.latents.shape)
    for chunk in chunks(n_samples, links.d_sae):
        part = Observations(observations.latents[chunk], observations.magnitudes[chunk])
        trellis = Trellis(links, likelihood, settings, targets, cut(part, likelihood))
        _associate(trellis, Decisions(*(values[chunk] for values in decided)))
    return build_tracks(observations.latents >= 0, decided, settings.confirm_hits)


def _associate(trellis: Trellis, decided: Decisions) -> None:
    """Decide a chunk layer after layer; writes into `decided`."""
    choose = STRATEGIES[trellis.settings.association](trellis)
    for layer in range(1, len(trellis.layers)):
        possible = trellis.possible(layer)
        is_chosen = choose(layer, possible)
        trellis.link(layer, possible.at(np.flatnonzero(is_chosen)))
        _record_links(decided, trellis, layer, possible.at(np.flatnonzero(is_chosen)))
        _record_relatives(decided, trellis, layer, possible.at(np.flatnonzero(~is_chosen)))


def _record_links(decided: Decisions, trellis: Trellis, layer: int, made: Possible) -> None:
    """Write the links into a layer down."""
    source, target = trellis.places(layer, made)
    decided.predecessor.reshape(-1)[target.flat] = source.in_sample
    decided.link_llr.reshape(-1)[target.flat] = made.llr
    decided.innovation.reshape(-1)[target.flat] = made.innovation


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
