"""One layer at a time: which links are possible, what they gain, and what they leave behind."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int16, Int32

from ghosttrack.tracking.assign import Edges
from ghosttrack.tracking.candidates import find, slot_table
from ghosttrack.tracking.graph import AssociationGraph
from ghosttrack.tracking.kalman import State, born, update
from ghosttrack.tracking.observations import Observations, TrackerSettings


class Layer(NamedTuple):
    """One layer of a trellis; an observation's number in it is row * slots + slot."""

    latents: Int[np.ndarray, "row obs"]
    magnitudes: Float[np.ndarray, "row obs"]
    """In standard deviations about the mean that their latent has on text."""
    is_live: Bool[np.ndarray, "row obs"]
    """Last of its track so far; changed as links are made."""
    mean: Float[np.ndarray, "row obs"]
    """The filter's state after the observation, that of a birth at first; changed likewise."""
    variance: Float[np.ndarray, "row obs"]


class Possible(NamedTuple):
    """Links into one layer that pay: they gain against a miss and a birth."""

    source: Int[np.ndarray, "link"]
    """Number in the source's layer, `gap` layers above."""
    target: Int[np.ndarray, "link"]
    gap: Int[np.ndarray, "link"]
    gain: Float[np.ndarray, "link"]
    """Above 0: ratio, miss and birth together."""
    llr: Float[np.ndarray, "link"]
    innovation: Float[np.ndarray, "link"]
    mean: Float[np.ndarray, "link"]
    """State that the target would have."""
    variance: Float[np.ndarray, "link"]
    miss: Float[np.ndarray, "link"]
    birth: Float[np.ndarray, "link"]

    def at(self, which: Int[np.ndarray, "some"]) -> "Possible":
        """The links of these numbers."""
        return Possible(*(values[which] for values in self))


class Places(NamedTuple):
    """Where observations stand in `[row layer obs]` arrays."""

    flat: Int[np.ndarray, "link"]
    in_sample: Int[np.ndarray, "link"]
    """layer * slots + slot."""


class Trellis(NamedTuple):
    """Samples, or hypotheses about samples, on their way through the tracker."""

    graph: AssociationGraph
    settings: TrackerSettings
    targets: Int32[np.ndarray, "pair d_sae candidate"]
    """Candidates that pass the gate, as `Candidates.open_targets` gives them."""
    layers: list[Layer]

    def gaps(self, layer: int) -> range:
        """Layers between an observation of this layer and what it may continue."""
        return range(1, min(self.settings.max_misses + 1, layer) + 1)

    def possible(self, layer: int) -> Possible:
        """Score every candidate of the live tracks that is observed at a layer."""
        table = slot_table(self.layers[layer].latents, self.graph.d_sae)
        found = [self._possible(layer, gap, table) for gap in self.gaps(layer)]
        possible = Possible(*(np.concatenate(values) for values in zip(*found, strict=True)))
        return possible.at(np.flatnonzero(possible.gain > 0))

    def edges(self, possible: Possible) -> Edges:
        """The assignment problem of all rows."""
        row = possible.source + (possible.gap - 1) * self.layers[-1].latents.size
        return Edges(row, possible.target, possible.gain)

    def link(self, layer: int, made: Possible) -> None:
        """Carry tracks on: sources are the last no more, targets take the state over."""
        here = self.layers[layer]
        here.mean.reshape(-1)[made.target] = made.mean
        here.variance.reshape(-1)[made.target] = made.variance
        for gap in self.gaps(layer):
            above = self.layers[layer - gap]
            above.is_live.reshape(-1)[made.source[made.gap == gap]] = False

    def missed(self, layer: int) -> Float[np.ndarray, "row"]:
        """What it costs each row if none of its live tracks is observed at a layer."""
        cost = np.zeros(len(self.layers[layer].latents))
        for gap in self.gaps(layer):
            above = self.layers[layer - gap]
            miss = self.graph.miss[self.graph.pair(layer - gap, gap)]
            cost += np.where(above.is_live, miss[above.latents], 0.0).sum(axis=1)
        return cost

    def places(self, layer: int, links: Possible) -> tuple[Places, Places]:
        """Places of sources and targets of links into a layer."""
        n_slots = self.layers[0].latents.shape[1]
        row, target = np.divmod(links.target, n_slots)
        first = row * (len(self.layers) * n_slots)
        source = links.source - (row - layer + links.gap) * n_slots
        target += layer * n_slots
        return Places(first + source, source), Places(first + target, target)

    def at(self, rows: Int[np.ndarray, "some"], first: int) -> "Trellis":
        """Copy rows, as often as they are named; layers before `first` are done with and stay."""
        layers = [
            layer if number < first else Layer(*(values[rows] for values in layer))
            for number, layer in enumerate(self.layers)
        ]
        return self._replace(layers=layers)

    def _possible(self, layer: int, gap: int, table: Int16[np.ndarray, "row column"]) -> Possible:
        graph, above, here = self.graph, self.layers[layer - gap], self.layers[layer]
        pair = graph.pair(layer - gap, gap)
        hits = find(above.latents, above.is_live, self.targets[pair], table)
        observed = here.magnitudes.ravel()[hits.target]
        before = State(above.mean.ravel()[hits.source], above.variance.ravel()[hits.source])
        motion = float(graph.slope[pair]), float(graph.process[pair])
        said = update(before, observed, motion, float(graph.noise[layer]))
        innovation = np.square(said.surprise) / said.expected_square
        llr = graph.link[pair].ravel()[hits.edge].astype(np.float64)
        if "magnitude" in self.settings.clues:
            llr += 0.5 * (np.square(observed) - innovation - np.log(said.expected_square))
        miss = graph.miss[pair][above.latents.ravel()[hits.source]]
        birth = graph.birth[layer][here.latents.ravel()[hits.target]]
        is_identity = self.settings.association == "identity"
        return Possible(
            source=hits.source,
            target=hits.target,
            gap=np.full(len(hits.source), gap),
            gain=np.full(len(llr), 1 / gap) if is_identity else llr + miss + birth,
            llr=llr,
            innovation=innovation,
            mean=said.after.mean,
            variance=said.after.variance,
            miss=miss,
            birth=birth,
        )


def cut(observations: Observations, graph: AssociationGraph) -> list[Layer]:
    """Cut a chunk into contiguous layers in which nothing is linked."""
    layers = []
    for layer in range(observations.latents.shape[1]):
        latents = np.ascontiguousarray(observations.latents[:, layer])
        magnitudes = graph.standardise(observations, layer).astype(np.float64)
        state = born(magnitudes, float(graph.noise[layer]))
        layers.append(Layer(latents, magnitudes, latents >= 0, *state))
    return layers
