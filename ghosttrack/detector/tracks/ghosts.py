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

from collections.abc import Iterator, Mapping, Sequence
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

    Args:
        lm: The model.
        instruments: Those of the originals.
        original: What was observed at the questions themselves.
        copies: Per question, by kind, as `ghost_copies` writes them.
    """
    layers = instruments.layers
    columns: dict[str, Float[np.ndarray, " sample"]] = {}
    stay: dict[str, Float[np.ndarray, " track"]] = {}
    last = instruments.bank.directions[-1].detach().float().cpu().numpy()
    for kind in KINDS:
        sample = np.repeat(np.arange(len(copies)), [len(one[kind]) for one in copies])
        texts = [text for one in copies for text in one[kind]]
        parts = [
            _compare(_look(lm, instruments, texts[rows]), original, sample[rows], last)
            for rows in _chunks(len(texts), len(layers) * lm.d_model)
        ]
        found, stay[kind] = _pool(parts, original, sample, layers)
        columns |= {f"ghost_{kind}_{name}": values for name, values in found.items()}
    names = tuple(spec.name for spec in ghost_specs(layers))
    assert set(names) == set(columns), set(names) ^ set(columns)
    n_copies = sum(len(one[kind]) for one in copies for kind in KINDS)
    table = Table(names, np.stack([columns[name] for name in names], axis=1))
    return Ghosts(table, stay, n_copies / len(copies))


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


def _chunks(n: int, floats_each: int) -> Iterator[slice]:
    size = max(1, CHUNK_FLOATS // floats_each)
    return (slice(start, start + size) for start in range(0, n, size))


def _look(lm: LM, instruments: Instruments, texts: Sequence[str]) -> _Seen:
    """Observe and track every text at its last token; equal texts are read once."""
    numbers = {text: at for at, text in enumerate(dict.fromkeys(texts))}
    bank, layers, standard, _, tracker, _, top_k = instruments
    residuals = last_residuals(lm, lm.encode_all(list(numbers)), layers)
    (latents, magnitudes), strengths, acts = observe(bank, residuals, top_k, standard)
    tracks = link(Observations(latents, magnitudes), *tracker)
    n_links = tally(tracks.sample, len(numbers), tracks.n_obs - 1).astype(np.int64)
    row = np.array([numbers[text] for text in texts])
    observed = Observed(Observations(latents[row], magnitudes[row]), strengths[row], acts[row])
    return _Seen(observed, tracks.track_of[row], n_links[row])


def _compare(
    seen: _Seen,
    original: Original,
    sample: Int[np.ndarray, " copy"],
    last: Float[np.ndarray, "d_sae d_model"],
) -> _Compared:
    """Look for every observation of the originals, and for their links, in the copies.

    Args:
        seen: The copies.
        original: All originals.
        sample: Whose copy each is.
        last: Directions of the deepest layer.
    """
    own, there = original.evidence.observed, seen.observed
    d_sae = int(max(one.observations.latents.max() for one in (own, there))) + 1
    tracks = _LocalTracks.of(original.tracks, sample)
    left = np.zeros((len(sample), *own.strengths.shape[1:]), np.float32)
    for layer in range(own.strengths.shape[1]):
        latents = own.observations.latents[sample, layer]
        table = slot_table(there.observations.latents[:, layer], d_sae)
        slot = np.take_along_axis(table, np.where(latents >= 0, latents, d_sae), axis=1)
        is_there, slot = slot >= 0, np.maximum(slot, 0).astype(np.int64)
        strength = np.take_along_axis(there.strengths[:, layer], slot, axis=1)
        left[:, layer] = np.where(is_there, np.minimum(own.strengths[sample, layer], strength), 0)
        track_there = np.take_along_axis(seen.track_of[:, layer], slot, axis=1)
        tracks.follow(layer, np.where(is_there, track_there, -1))
    both = left.sum(axis=2, dtype=np.float64)
    either = own.strengths[sample].sum(axis=2) + there.strengths.sum(axis=2) - both
    n_either = tracks.n_links + seen.n_links - tracks.n_kept
    mine = _attribution(own, original.reader, np.arange(len(original.reader)), last)
    theirs = _attribution(there, original.reader, sample, last)
    return _Compared(
        jaccard=ratio(both, either, empty=0.0),
        links=ratio(tracks.n_kept, n_either, empty=0.0),
        left=left,
        push=np.minimum(ratio(theirs.positive, mine.positive[sample], empty=nan), MOST_PUSH),
        loss=mine.whole[sample] - theirs.whole,
    )


class _Attribution(NamedTuple):
    """To the answer, at the deepest layer, in logits."""

    positive: Float[np.ndarray, " row"]
    whole: Float[np.ndarray, " row"]


def _attribution(
    observed: Observed,
    reader: Float[np.ndarray, "sample d_model"],
    sample: Int[np.ndarray, " row"],
    last: Float[np.ndarray, "d_sae d_model"],
) -> _Attribution:
    mine, local = np.unique(sample, return_inverse=True)
    says = last @ reader[mine].T  # [d_sae mine]
    latents = np.maximum(observed.observations.latents[:, -1], 0)  # empty slots have act 0
    logits = (says[latents, local[:, None]] * observed.acts[:, -1]).astype(np.float64)
    return _Attribution(np.maximum(logits, 0.0).sum(axis=1), logits.sum(axis=1))


class _LocalTracks:
    """The originals' tracks, followed through their copies layer by layer."""

    UNSEEN = -2

    def __init__(self, track_of: Int[np.ndarray, "copy layer obs"], n_most: int) -> None:
        self.track_of = track_of
        self.n_most = n_most
        self.last = np.full((len(track_of), n_most + 1), self.UNSEEN)
        self.n_links = np.zeros(len(track_of), np.int64)
        self.n_kept = np.zeros(len(track_of), np.int64)

    @classmethod
    def of(cls, tracks: Tracks, sample: Int[np.ndarray, " copy"]) -> "_LocalTracks":
        """Number the tracks of each copy's original from 0; empty slots get the last number."""
        n_tracks = np.bincount(tracks.sample, minlength=len(tracks.track_of))
        first = np.cumsum(n_tracks) - n_tracks
        n_most = int(n_tracks.max(initial=0))
        local = tracks.track_of[sample] - first[sample, None, None]
        return cls(np.where(tracks.track_of[sample] >= 0, local, n_most), n_most)

    def follow(self, layer: int, track_there: Int[np.ndarray, "copy obs"]) -> None:
        """Count the links into a layer, and those that one track of the copy makes as well.

        Args:
            layer: The next one.
            track_there: Track of the copy that holds each of the original's observations, or -1.
        """
        local = self.track_of[:, layer]
        is_there = local < self.n_most
        before = np.take_along_axis(self.last, local, axis=1)
        self.n_links += (is_there & (before != self.UNSEEN)).sum(axis=1)
        self.n_kept += (is_there & (before >= 0) & (before == track_there)).sum(axis=1)
        np.put_along_axis(self.last, local, track_there, axis=1)


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
    push = _push(original)
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


def _push(original: Original) -> Float[np.ndarray, " track"]:
    """Each track's attribution to the answer at its last observation; 0 where it speaks against."""
    tracks, attribution = original.tracks, original.evidence.attribution
    places = last_places(tracks)
    logits = attribution.logits[(*places, attribution.emitted[tracks.sample])]
    return np.maximum(logits, 0.0).astype(np.float64)


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
