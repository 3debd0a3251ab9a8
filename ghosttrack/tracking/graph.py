"""The association graph: what may carry a latent on, and how much likelier than chance it does.

For a source latent i at one layer and its candidate j, `gap` layers deeper, everything is counted
on unlabelled text, one set of observations per token:

    s_ij    persistence: share of the occasions of i on which it is carried on as j. The number of
            common occasions, less those that chance explains (i and j independent), over the
            occasions that chance leaves: (n_ij - n_i f_j) / (n_i (1 - f_j)). It is drawn towards
            S(cos_ij), the same quantity as a rising function of the decoder cosine alone (isotonic
            regression over all links of the pair of layers), which counts as `PRIOR_OCCASIONS`.
    link    log s_ij / f_j  =  log S(cos) / f_j (direction)  +  log s_ij / S(cos) (co-activation)
    miss    -log prod_j (1 - s_ij): what it costs that no candidate carries i on
    birth   -log prod_i (1 - s_ij f_i / f_j): what it costs that no source explains j
    mag     log N(z_j; expected, variance) - log N(z_j; 0, 1): magnitudes in standard deviations
            about the mean of their own latent; what to expect is up to the track's filter (kalman)

A link pays if link + mag + miss + birth > 0. At gap 2 and beyond only sources count that nothing
nearer carries on, and targets that nothing nearer explains: a gap never claims what a nearer layer
holds.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32
from scipy.optimize import isotonic_regression

from ghosttrack.tracking.assign import Edges, assign
from ghosttrack.tracking.candidates import Candidates, Hits, chunks, find, slot_table
from ghosttrack.tracking.kalman import LEAST_VARIANCE, silent
from ghosttrack.tracking.observations import Arrays, Observations, TrackerSettings

PRIOR_OCCASIONS = 10.0
"""Occasions of a latent after which its own count weighs as much as what its cosine suggests."""
LEAST_SHARE, MOST_SHARE = 1e-4, 0.98
"""Bounds of every fitted probability: no finite text proves never or always."""


class _Layer(NamedTuple):
    """One layer of the text, as one pair of layers sees it."""

    latents: Int[np.ndarray, "sample obs"]
    is_end: Bool[np.ndarray, "sample obs"]
    """Nothing carries it on at the gaps fitted so far; changed as gaps are fitted."""
    is_birth: Bool[np.ndarray, "sample obs"]
    """Nothing explains it at the gaps fitted so far; changed likewise."""
    frequency: Float[np.ndarray, "d_sae"]
    """Share of the samples in which the latent is active, open or not."""


class _Pair(NamedTuple):
    """What is fitted on one pair of layers."""

    link: Float[np.ndarray, "d_sae candidate"]
    miss: Float[np.ndarray, "d_sae"]
    birth: Float[np.ndarray, "d_sae"]
    linked: Hits


@dataclass(frozen=True)
class AssociationGraph(Candidates):
    """Links between layers, with log-likelihood ratios and costs in nats.

    Fitted once per bank and tracker settings.
    """

    link: Float32[np.ndarray, "pair d_sae candidate"]
    """Ratio of every link, without magnitudes; 0 where the gate is shut."""
    miss: Float32[np.ndarray, "pair d_sae"]
    """Cost of leaving a track that was this latent, this gap ago, without an observation."""
    birth: Float32[np.ndarray, "layer d_sae"]
    """Cost of an observation of this latent that no track explains."""
    mean: Float32[np.ndarray, "layer d_sae"]
    """Mean magnitude per latent, drawn to the layer's where the latent is rare."""
    deviation: Float32[np.ndarray, "layer d_sae"]
    """Standard deviation of its magnitudes, likewise."""
    slope: Float32[np.ndarray, "pair"]
    """The filter's, as in `kalman.Filter`, and so the next two; silent until it is fitted."""
    process: Float32[np.ndarray, "pair"]
    noise: Float32[np.ndarray, "layer"]

    def standardise(
        self, observations: Observations, layer: int
    ) -> Float[np.ndarray, "sample obs"]:
        """Magnitudes of one layer in standard deviations about the mean of their own latent."""
        latents = observations.latents[:, layer]
        above_mean = observations.magnitudes[:, layer] - self.mean[layer, latents]
        return above_mean / self.deviation[layer, latents]

    def arrays(self) -> Arrays:
        """Plain arrays that `from_arrays` reads back."""
        return {
            f"graph.{field.name}": np.asarray(getattr(self, field.name)) for field in fields(self)
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "AssociationGraph":
        """Inverse of `arrays`."""
        held = {field.name: arrays[f"graph.{field.name}"] for field in fields(cls)}
        n_layers, max_gap = (int(held.pop(name)) for name in ("n_layers", "max_gap"))
        return cls(**held, n_layers=n_layers, max_gap=max_gap)


def fit_graph(
    candidates: Candidates, text: Observations, settings: TrackerSettings
) -> AssociationGraph:
    """Count on unlabelled text: a few thousand tokens, none of them from the answers judged.

    Every token is a sample of the text; gate and association are those that the tracker will use.
    """
    assert text.latents.shape[1] == candidates.n_layers, "text and candidates differ in layers"
    d_sae, targets = candidates.d_sae, candidates.open_targets(settings)
    mean, deviation = _moments(text, d_sae)
    layers = [_layer(latents, d_sae) for latents in np.moveaxis(text.latents, 1, 0)]
    link, miss, birth = (
        np.zeros(shape) for shape in (targets.shape, targets.shape[:2], mean.shape)
    )
    for pair, (layer, gap) in enumerate(candidates.pairs):
        source, target = layers[layer], layers[layer + gap]
        link[pair], miss[pair], birth[layer + gap], linked = _fit_pair(
            source, target, targets[pair], candidates.cosines[pair], birth[layer + gap], settings
        )
        source.is_end.reshape(-1)[linked.source] = False
        target.is_birth.reshape(-1)[linked.target] = False
    return AssociationGraph(
        latents=candidates.latents,
        cosines=candidates.cosines,
        gates=candidates.gates,
        n_layers=candidates.n_layers,
        max_gap=candidates.max_gap,
        link=link.astype(np.float32),
        miss=miss.astype(np.float32),
        birth=birth.astype(np.float32),
        mean=mean.astype(np.float32),
        deviation=deviation.astype(np.float32),
        **silent(len(candidates.pairs), candidates.n_layers)._asdict(),
    )


def _moments(
    text: Observations, d_sae: int
) -> tuple[Float[np.ndarray, "layer d_sae"], Float[np.ndarray, "layer d_sae"]]:
    """Mean and standard deviation of every latent's magnitudes, drawn to those of its layer."""
    n_layers = text.latents.shape[1]
    mean, variance = np.zeros((n_layers, d_sae)), np.ones((n_layers, d_sae))
    for layer in range(n_layers):
        is_there = text.latents[:, layer] >= 0
        if not is_there.any():
            continue
        latents = text.latents[:, layer][is_there]
        magnitudes = text.magnitudes[:, layer][is_there].astype(np.float64)
        weight = np.bincount(latents, minlength=d_sae) + PRIOR_OCCASIONS
        total = np.bincount(latents, weights=magnitudes, minlength=d_sae)
        mean[layer] = (total + PRIOR_OCCASIONS * magnitudes.mean()) / weight
        squares = np.square(magnitudes - mean[layer, latents])
        total = np.bincount(latents, weights=squares, minlength=d_sae)
        variance[layer] = (total + PRIOR_OCCASIONS * squares.mean()) / weight
    return mean, np.sqrt(np.maximum(variance, LEAST_VARIANCE))


def _layer(latents: Int[np.ndarray, "sample obs"], d_sae: int) -> _Layer:
    latents = np.ascontiguousarray(latents)
    is_there = latents >= 0
    frequency = (np.bincount(latents[is_there], minlength=d_sae) + 0.5) / (len(latents) + 1)
    return _Layer(latents, is_there, is_there.copy(), frequency)


def _fit_pair(
    source: _Layer,
    target: _Layer,
    targets: Int32[np.ndarray, "d_sae candidate"],
    cosines: Float[np.ndarray, "d_sae candidate"],
    birth: Float[np.ndarray, "d_sae"],
    settings: TrackerSettings,
) -> _Pair:
    """Fit one pair of layers; `birth` is what the nearer layers leave the targets to cost."""
    d_sae = len(targets)
    hits = _hits(source, target, targets)
    share = _share(hits, source, target, targets, cosines, "coactivation" in settings.clues)
    frequency = np.append(target.frequency, 1.0)[targets]
    link = np.log(np.where(share > 0, share / frequency, 1.0))
    rate = np.bincount(source.latents[source.is_end], minlength=d_sae) / len(source.latents)
    miss = _cost_of_none(share, np.broadcast_to(np.arange(d_sae)[:, None], share.shape), d_sae)
    explained = _cost_of_none(share * rate[:, None] / frequency, targets, d_sae)
    birth = np.minimum(birth + explained, -np.log1p(-MOST_SHARE))
    gain = (
        link.ravel()[hits.edge]
        + miss[source.latents.ravel()[hits.source]]
        + birth[target.latents.ravel()[hits.target]]
    )
    if settings.association == "identity":
        gain = np.ones_like(gain)
    # the links that pay without magnitudes, best first: nearly those that the tracker makes
    pays = np.flatnonzero(gain > 0)
    edges = Edges(hits.source[pays], hits.target[pays], gain[pays])
    chosen = pays[assign(edges, optimal=False)]
    return _Pair(link, miss, birth, Hits(*(values[chosen] for values in hits)))


def _hits(source: _Layer, target: _Layer, targets: Int32[np.ndarray, "d_sae candidate"]) -> Hits:
    """Candidates of ends of the upper layer that are births of the deeper one."""
    n_slots, d_sae = source.latents.shape[1], len(targets)
    found = []
    for chunk in chunks(len(source.latents), d_sae):
        table = slot_table(np.where(target.is_birth[chunk], target.latents[chunk], -1), d_sae)
        hits = find(source.latents[chunk], source.is_end[chunk], targets, table)
        first = chunk.start * n_slots
        found.append(Hits(hits.source + first, hits.target + first, hits.edge))
    return Hits(*(np.concatenate(values) for values in zip(*found, strict=True)))


def _share(
    hits: Hits,
    source: _Layer,
    target: _Layer,
    targets: Int32[np.ndarray, "d_sae candidate"],
    cosines: Float[np.ndarray, "d_sae candidate"],
    is_counted: bool,
) -> Float[np.ndarray, "d_sae candidate"]:
    """Persistence s_ij of every link; 0 where the gate is shut.

    Where a link's own occasions are not counted, s_ij is what its cosine suggests.
    """
    together = np.bincount(hits.edge, minlength=targets.size).reshape(targets.shape)
    occasions = np.bincount(source.latents[source.is_end], minlength=len(targets))[:, None]
    births = np.bincount(target.latents[target.is_birth], minlength=len(targets))
    chance = np.append(births / len(target.latents), 1.0)[targets]
    excess, room = together - occasions * chance, occasions * (1 - chance)
    is_open = targets < len(targets)
    seen = is_open & (room > 0)
    if not seen.any():
        return np.where(is_open, LEAST_SHARE, 0.0)
    order = np.argsort(cosines[seen], kind="stable")
    rising = isotonic_regression(
        (excess[seen] / room[seen])[order], weights=room[seen].astype(float)[order]
    ).x
    share = np.clip(np.interp(cosines, cosines[seen][order], rising), LEAST_SHARE, MOST_SHARE)
    if is_counted:
        share = (excess + PRIOR_OCCASIONS * share) / (room + PRIOR_OCCASIONS)
    return np.where(is_open, np.clip(share, LEAST_SHARE, MOST_SHARE), 0.0)


def _cost_of_none(
    chance: Float[np.ndarray, "d_sae candidate"],
    latent: Int[np.ndarray, "d_sae candidate"],
    d_sae: int,
) -> Float[np.ndarray, "d_sae"]:
    """-log of the chance that none of a latent's links holds, bounded; latent d_sae is nobody."""
    cost = -np.log1p(-np.minimum(chance, MOST_SHARE))
    total = np.bincount(latent.ravel(), weights=cost.ravel(), minlength=d_sae + 1)[:d_sae]
    return np.minimum(total, -np.log1p(-MOST_SHARE))
