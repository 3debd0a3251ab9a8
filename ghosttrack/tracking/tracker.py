"""Link observations over depth: thousands of samples in one call."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int16, Int32

from ghosttrack.tracking.assign import Edges, assign
from ghosttrack.tracking.likelihood import Likelihood
from ghosttrack.tracking.links import LinkGraph, identity_graph, link_graph
from ghosttrack.tracking.lookup import chunks, find, open_targets, slot_table
from ghosttrack.tracking.observations import Arrays, Directions, Observations, TrackerSettings
from ghosttrack.tracking.tracks import Decisions, Tracks, build_tracks, no_decisions


class Tracker(NamedTuple):
    """All that `track` needs beside observations: `track(observations, *tracker)`."""

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
    links = graph(directions, settings.max_misses + 1)
    return Tracker(links, Likelihood.fit(text, links, settings), settings)


def track(
    observations: Observations,
    links: LinkGraph,
    likelihood: Likelihood,
    settings: TrackerSettings,
) -> Tracks:
    """Link every sample's observations into tracks, from the first layer to the last.

    A track is the chain of its observations; its state is the last of them. At every layer the live
    tracks, observed there or up to `max_misses` layers before and not continued since, compete for
    the layer's observations by `assign`; what is left over are misses and births. A track dies when
    it has coasted `max_misses` layers or the model ends. By the identity association every link to
    the same index pays, the nearest layer's first.
    """
    n_samples, n_layers, _ = observations.latents.shape
    assert n_layers == links.n_layers, f"{n_layers} layers observed, links have {links.n_layers}"
    assert links.max_gap > settings.max_misses, "the link graph is too short for max_misses"
    tracker = Tracker(links, likelihood, settings)
    targets = open_targets(links, settings)
    decided = no_decisions(observations.latents.shape)
    for chunk in chunks(n_samples, links.d_sae):
        part = Observations(observations.latents[chunk], observations.magnitudes[chunk])
        _associate(part, tracker, targets, Decisions(*(values[chunk] for values in decided)))
    return build_tracks(observations.latents >= 0, decided, settings.confirm_hits)


class _Layer(NamedTuple):
    """One layer of a chunk; an observation's number in it is sample * slots + slot."""

    latents: Int[np.ndarray, "sample obs"]
    is_live: Bool[np.ndarray, "sample obs"]
    """Last of its track so far; changed as links are made."""
    magnitudes: Float[np.ndarray, "sample obs"]
    """In standard deviations about the mean that their latent has on text."""


class _Possible(NamedTuple):
    """Links that could lead into one layer."""

    source: Int[np.ndarray, "link"]
    """Number in the source's layer, `gap` layers above."""
    target: Int[np.ndarray, "link"]
    gap: Int[np.ndarray, "link"]
    llr: Float[np.ndarray, "link"]
    innovation: Float[np.ndarray, "link"]
    miss: Float[np.ndarray, "link"]
    birth: Float[np.ndarray, "link"]

    def at(self, which: Int[np.ndarray, "some"]) -> "_Possible":
        """The links of these numbers."""
        return _Possible(*(values[which] for values in self))


def _associate(
    observations: Observations,
    tracker: Tracker,
    targets: Int32[np.ndarray, "pair d_sae candidate"],
    decided: Decisions,
) -> None:
    """Decide a chunk layer after layer; writes into `decided`."""
    links, likelihood, settings = tracker
    layers = _layers(observations, likelihood)
    for layer in range(1, len(layers)):
        table = slot_table(layers[layer].latents, links.d_sae)
        found = []
        for gap in range(1, min(settings.max_misses + 1, layer) + 1):
            pair = links.pair(layer - gap, gap)
            found.append(_possible(layers, (layer, gap, pair), targets[pair], table, likelihood))
        possible = _Possible(*(np.concatenate(values) for values in zip(*found, strict=True)))
        if settings.association == "identity":
            gain = 1 / possible.gap
        else:
            gain = possible.llr + possible.miss + possible.birth
        pays = np.flatnonzero(gain > 0)
        possible = possible.at(pays)
        row = possible.source + (possible.gap - 1) * layers[0].latents.size
        edges = Edges(row, possible.target, gain[pays])
        is_chosen = assign(edges, optimal=settings.association == "hungarian")
        _record_links(decided, layers, layer, possible.at(np.flatnonzero(is_chosen)))
        _record_relatives(decided, layers, layer, possible.at(np.flatnonzero(~is_chosen)))


def _layers(observations: Observations, likelihood: Likelihood) -> list[_Layer]:
    """Cut a chunk into contiguous layers."""
    layers = []
    for layer, (mean, deviation) in enumerate(
        zip(likelihood.mean, likelihood.deviation, strict=True)
    ):
        latents = np.ascontiguousarray(observations.latents[:, layer])
        magnitudes = (observations.magnitudes[:, layer] - mean[latents]) / deviation[latents]
        layers.append(_Layer(latents, latents >= 0, magnitudes))
    return layers


def _possible(
    layers: list[_Layer],
    where: tuple[int, int, int],
    targets: Int32[np.ndarray, "d_sae candidate"],
    table: Int16[np.ndarray, "sample column"],
    likelihood: Likelihood,
) -> _Possible:
    """Score every candidate of the live tracks that is observed; `where` is layer, gap, pair."""
    layer, gap, pair = where
    above, here = layers[layer - gap], layers[layer]
    hits = find(above.latents, above.is_live, targets, table)
    variance = float(likelihood.variance[pair])
    after = here.magnitudes.ravel()[hits.target].astype(np.float64)
    expected = float(likelihood.slope[pair]) * above.magnitudes.ravel()[hits.source]
    innovation = np.square(after - expected) / variance
    magnitude = 0.5 * (np.square(after) - innovation - np.log(variance))
    return _Possible(
        source=hits.source,
        target=hits.target,
        gap=np.full(len(hits.source), gap),
        llr=likelihood.link[pair].ravel()[hits.edge] + magnitude,
        innovation=innovation,
        miss=likelihood.miss[pair][above.latents.ravel()[hits.source]],
        birth=likelihood.birth[layer][here.latents.ravel()[hits.target]],
    )


def _record_links(decided: Decisions, layers: list[_Layer], layer: int, made: _Possible) -> None:
    """Write the links into a layer down; their sources are the last of their tracks no more."""
    source, target = _places(layers, layer, made)
    decided.predecessor.reshape(-1)[target.flat] = source.in_sample
    decided.link_llr.reshape(-1)[target.flat] = made.llr
    decided.innovation.reshape(-1)[target.flat] = made.innovation
    for gap in range(1, layer + 1):
        layers[layer - gap].is_live.reshape(-1)[made.source[made.gap == gap]] = False


def _record_relatives(
    decided: Decisions, layers: list[_Layer], layer: int, unmade: _Possible
) -> None:
    """Write splits and merges down: links that would have paid, had one end not been taken.

    A birth is a split if a continued track explains it better than chance and a birth do. The end
    of a track is a merge if a taken observation explains it better than chance and a miss do; of
    several, the first layer counts, and in it the likeliest.
    """
    unmade = unmade.at(np.argsort(unmade.llr, kind="stable"))
    source, target = _places(layers, layer, unmade)
    is_birth = decided.predecessor.reshape(-1)[target.flat] < 0
    splits = is_birth & (unmade.llr + unmade.birth > 0)
    decided.split_from.reshape(-1)[target.flat[splits]] = source.in_sample[splits]
    is_end = decided.merge_to.reshape(-1)[source.flat] < 0
    for gap in range(1, layer + 1):
        of_gap = np.flatnonzero(unmade.gap == gap)
        is_end[of_gap] &= layers[layer - gap].is_live.reshape(-1)[unmade.source[of_gap]]
    merges = ~is_birth & is_end & (unmade.llr + unmade.miss > 0)
    decided.merge_to.reshape(-1)[source.flat[merges]] = target.in_sample[merges]


class _Places(NamedTuple):
    """Where observations stand in `[sample layer obs]` arrays."""

    flat: Int[np.ndarray, "link"]
    in_sample: Int[np.ndarray, "link"]
    """layer * slots + slot."""


def _places(layers: list[_Layer], layer: int, links: _Possible) -> tuple[_Places, _Places]:
    """Places of sources and targets of links into a layer."""
    n_slots = layers[0].latents.shape[1]
    sample, target = np.divmod(links.target, n_slots)
    first = sample * (len(layers) * n_slots)
    source = links.source - (sample - layer + links.gap) * n_slots
    target += layer * n_slots
    return _Places(first + source, source), _Places(first + target, target)
