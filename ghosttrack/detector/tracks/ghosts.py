"""Ghosts: tracks that stay when their evidence is exchanged.

A hypothesis that the model holds for a reason survives a paraphrase and dies with its cause,
another name in the subject's place. So the question is read again in other wordings and, in its own
wording, about other subjects; a track of the original is looked for in each copy, latent by latent.
What stays under the swap of names is a ghost, what vanishes was evidence.

    jaccard   sum min(s, s') / sum max(s, s')    strengths s of active latents here, s' in the copy
    links     n(in both) / n(in either)          links that tracks make between layers
    stay      of a track: the share of its strength that min(s, s') leaves, mean over the copies
    evidence  sum of push * stay / sum of push   push: a track's attribution to the answer, where
                                                 positive, at its last observation
    push      P' / P                             P: the positive attribution to the answer, in all,
                                                 at the deepest layer
    loss      A - A'                             A: the whole attribution there, in logits
"""

from collections.abc import Mapping, Sequence
from math import nan
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ghosttrack.detector.asking.families.ghosts import KINDS, MOST_PUSH, ghost_specs
from ghosttrack.detector.table import Table
from ghosttrack.detector.tracks.attribution import Evidence, last_places
from ghosttrack.detector.tracks.observe import Observed, observe
from ghosttrack.detector.tracks.streaming import Instruments
from ghosttrack.detector.tracks.track_table import ratio, tally
from ghosttrack.models.lm import LM
from ghosttrack.models.readings import last_residuals
from ghosttrack.tracking.candidates import slot_table
from ghosttrack.tracking.observations import Observations
from ghosttrack.tracking.tracker import link
from ghosttrack.tracking.tracks import Tracks

CHUNK_FLOATS = 2**26
"""Numbers of residual streams held at once: 256 MiB."""


class Original(NamedTuple):
    """What the copies are compared with."""

    evidence: Evidence
    tracks: Tracks
    reader: Float[np.ndarray, "sample d_model"]
    """Direction whose dot product with what a latent writes is its attribution to the answer."""


class Ghosts(NamedTuple):
    """What the copies show, in the answers' order."""

    table: Table
    """NaN where a question has no copy of a kind."""
    stay: Mapping[str, Float[np.ndarray, " track"]]
    """Kind of copy to the share of every track that stays, in [0, 1]; NaN without a copy."""
    forwards: float
    """Mean number of copies per answer."""


def find_ghosts(
    lm: LM,
    instruments: Instruments,
    original: Original,
    copies: Sequence[Mapping[str, Sequence[str]]],
) -> Ghosts:
    """Read, observe and track every copy, and compare it with its original.

    `copies` are, per question and by kind, as `ghost_copies` writes them.
    """
    layers = instruments.layers
    columns: dict[str, Float[np.ndarray, " sample"]] = {}
    stay: dict[str, Float[np.ndarray, " track"]] = {}
    size = max(1, CHUNK_FLOATS // (len(layers) * lm.d_model))
    last = instruments.bank.directions[-1].detach().float().cpu().numpy()
    for kind in KINDS:
        sample = np.repeat(np.arange(len(copies)), [len(one[kind]) for one in copies])
        texts = [text for one in copies for text in one[kind]]
        parts = [
            _compare(_look(lm, instruments, texts[rows]), original, sample[rows], last)
            for rows in (slice(start, start + size) for start in range(0, len(texts), size))
        ]
        found, stay[kind] = _pool(parts, original, sample, layers)
        columns |= {f"ghost_{kind}_{name}": values for name, values in found.items()}
    n_copies = sum(len(one[kind]) for one in copies for kind in KINDS)
    return Ghosts(Table.of(ghost_specs(layers), columns), stay, n_copies / len(copies))


class _Seen(NamedTuple):
    """What was observed and tracked at copies; one row per copy, those that read the same share."""

    observed: Observed
    track_of: Int[np.ndarray, "copy layer obs"]
    n_links: Int[np.ndarray, " copy"]


class _Compared(NamedTuple):
    """Copies beside their originals."""

    jaccard: Float[np.ndarray, "copy layer"]
    links: Float[np.ndarray, " copy"]
    left: Float[np.ndarray, "copy layer obs"]
    """min(s, s') of the original's observations."""
    push: Float[np.ndarray, " copy"]
    loss: Float[np.ndarray, " copy"]


def _look(lm: LM, instruments: Instruments, texts: Sequence[str]) -> _Seen:
    """Observe and track every text at its last token; equal texts are read once."""
    numbers = {text: at for at, text in enumerate(dict.fromkeys(texts))}
    bank, layers, standard, _, tracker, _, top_k = instruments
    residuals = last_residuals(lm, lm.encode_all(list(numbers)), layers)
    (latents, magnitudes), strengths, acts = observe(bank, residuals, top_k, standard)
    tracks = link(Observations(latents, magnitudes), *tracker)
    row = np.array([numbers[text] for text in texts])
    observed = Observed(Observations(latents[row], magnitudes[row]), strengths[row], acts[row])
    return _Seen(observed, tracks.track_of[row], _n_links(tracks)[row])


def _compare(
    seen: _Seen,
    original: Original,
    sample: Int[np.ndarray, " copy"],
    last: Float[np.ndarray, "d_sae d_model"],
) -> _Compared:
    """Look for every observation of the originals, and for their links, in the copies.

    `sample` says whose copy each is, `last` holds the directions of the deepest layer.
    """
    own, there = original.evidence.observed, seen.observed
    d_sae = int(max(one.observations.latents.max() for one in (own, there))) + 1
    track_there = np.full((len(sample), *own.strengths.shape[1:]), -1)
    left = np.zeros((len(sample), *own.strengths.shape[1:]), np.float32)
    for layer in range(own.strengths.shape[1]):
        latents = own.observations.latents[sample, layer]
        table = slot_table(there.observations.latents[:, layer], d_sae)
        slot = np.take_along_axis(table, np.where(latents >= 0, latents, d_sae), axis=1)
        is_there, slot = slot >= 0, np.maximum(slot, 0).astype(np.int64)
        strength = np.take_along_axis(there.strengths[:, layer], slot, axis=1)
        left[:, layer] = np.where(is_there, np.minimum(own.strengths[sample, layer], strength), 0)
        track = np.take_along_axis(seen.track_of[:, layer], slot, axis=1)
        track_there[:, layer] = np.where(is_there, track, -1)
    both = left.sum(axis=2, dtype=np.float64)
    either = own.strengths[sample].sum(axis=2) + there.strengths.sum(axis=2) - both
    n_kept = _n_kept(original.tracks, sample, track_there)
    n_either = _n_links(original.tracks)[sample] + seen.n_links - n_kept
    everyone = np.arange(len(original.reader))
    push, whole = (each[sample] for each in _attribution(own, original.reader, everyone, last))
    push_there, whole_there = _attribution(there, original.reader, sample, last)
    return _Compared(
        jaccard=ratio(both, either),
        links=ratio(n_kept, n_either),
        left=left,
        push=np.minimum(ratio(push_there, push, empty=nan), MOST_PUSH),
        loss=whole - whole_there,
    )


def _attribution(
    observed: Observed,
    reader: Float[np.ndarray, "sample d_model"],
    sample: Int[np.ndarray, " row"],
    last: Float[np.ndarray, "d_sae d_model"],
) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]]:
    """Attribute the answer to the deepest layer, in logits: the positive part, and the whole."""
    mine, local = np.unique(sample, return_inverse=True)
    says = last @ reader[mine].T  # [d_sae mine]
    latents = np.maximum(observed.observations.latents[:, -1], 0)  # empty slots have act 0
    logits = (says[latents, local[:, None]] * observed.acts[:, -1]).astype(np.float64)
    return np.maximum(logits, 0.0).sum(axis=1), logits.sum(axis=1)


def _n_kept(
    tracks: Tracks, sample: Int[np.ndarray, " copy"], track_there: Int[np.ndarray, "copy layer obs"]
) -> Int[np.ndarray, " copy"]:
    """Count the links of each copy's original that one track of the copy makes as well.

    `track_there` is the track of the copy that holds each of the original's observations, or -1.
    """
    own = tracks.track_of[sample]
    places = copy, _, _ = np.nonzero(own >= 0)  # layers ascend within a copy
    order = np.lexsort((own[places], copy))
    copy, own, there = (one[order] for one in (copy, own[places], track_there[places]))
    is_kept = (np.diff(copy) == 0) & (np.diff(own) == 0) & (np.diff(there) == 0) & (there[1:] >= 0)
    return np.bincount(copy[1:][is_kept], minlength=len(sample))


def _n_links(tracks: Tracks) -> Int[np.ndarray, " sample"]:
    return tally(tracks.sample, len(tracks.track_of), tracks.n_obs - 1).astype(np.int64)


def _pool(
    parts: Sequence[_Compared],
    original: Original,
    sample: Int[np.ndarray, " copy"],
    layers: Sequence[int],
) -> tuple[dict[str, Float[np.ndarray, " sample"]], Float[np.ndarray, " track"]]:
    """Average over the copies of each question; also the share of every track that stays."""
    tracks, strengths = original.tracks, original.evidence.observed.strengths
    n_samples = len(tracks.track_of)
    n_copies = np.bincount(sample, minlength=n_samples)
    empty = np.empty((0, *strengths.shape[1:]), np.float32)
    left = np.concatenate([empty, *(part.left for part in parts)])
    mean_left = _mean(left, n_copies)
    where = np.nonzero(tracks.track_of >= 0)
    owner = tracks.track_of[where]
    stay = tally(owner, len(tracks), mean_left[where]) / tally(owner, len(tracks), strengths[where])
    attribution = original.evidence.attribution
    places = last_places(tracks)
    push = attribution.logits[(*places, attribution.emitted[tracks.sample])]
    push = np.maximum(push, 0.0).astype(np.float64)  # 0 for a track that speaks against the answer
    columns = {}
    for name in ("links", "push", "loss"):
        values = np.concatenate([np.empty(0), *(getattr(part, name) for part in parts)])
        columns[name] = _mean(values, n_copies)
        if name != "links":
            extreme, end = (np.fmin, "min") if name == "loss" else (np.fmax, "max")
            columns[f"{name}_{end}"] = _reduce(extreme, values, n_copies)
    by_layer = np.concatenate([np.empty((0, len(layers))), *(part.jaccard for part in parts)])
    by_layer = _mean(by_layer, n_copies)
    columns |= {f"jaccard_{layer:02d}": by_layer[:, at] for at, layer in enumerate(layers)}
    columns["jaccard"] = by_layer.mean(axis=1)
    stays = tally(tracks.sample, n_samples, push * stay)
    columns["evidence"] = ratio(stays, tally(tracks.sample, n_samples, push), empty=nan)
    return columns, stay


def _mean(
    values: Float[np.ndarray, "copy *rest"], n_copies: Int[np.ndarray, " sample"]
) -> Float[np.ndarray, "sample *rest"]:
    """Mean over the copies of each sample, which stand together; NaN without any."""
    total = _reduce(np.add, values, n_copies)
    return total / np.maximum(n_copies, 1).reshape(-1, *[1] * (values.ndim - 1))


def _reduce(
    combine: np.ufunc, values: Float[np.ndarray, "copy *rest"], n_copies: Int[np.ndarray, " sample"]
) -> Float[np.ndarray, "sample *rest"]:
    """Combine the copies of each sample, which stand together; NaN without any."""
    out = np.full((len(n_copies), *values.shape[1:]), nan)
    has = np.flatnonzero(n_copies)
    if has.size:
        starts = (np.cumsum(n_copies) - n_copies)[has]
        out[has] = combine.reduceat(values.astype(np.float64), starts, axis=0)
    return out
