"""Evidence and tracks made by hand or at random, small enough to add up on paper."""

from pathlib import Path

import numpy as np

from ghosttrack.detector.tracks.attribution import Attribution, Evidence
from ghosttrack.detector.tracks.observe import Observed
from ghosttrack.models.config import Dtype, ModelConfig, TrainingConfig
from ghosttrack.models.lm import LM
from ghosttrack.models.load import load_lm
from ghosttrack.tracking.observations import Observations
from ghosttrack.tracking.tracks import Tracks


def tracks_from(track_of, *, parent=None, merged_into=None, confirm_hits: int = 2) -> Tracks:
    """Tracks whose numbers are these, 0 and up; -1 is an empty slot."""
    track_of = np.asarray(track_of)
    sample, layer, slot = np.nonzero(track_of >= 0)
    owner = track_of[sample, layer, slot]
    n_obs = np.bincount(owner)
    birth, last = np.full(len(n_obs), track_of.shape[1]), np.full(len(n_obs), -1)
    np.minimum.at(birth, owner, layer)
    np.maximum.at(last, owner, layer)
    sample_of = np.zeros(len(n_obs), dtype=int)
    sample_of[owner] = sample
    none = np.full(len(n_obs), -1)
    unknown = np.full(track_of.shape, np.nan)
    return Tracks(
        track_of=track_of,
        link_llr=unknown,
        innovation=unknown,
        sample=sample_of,
        birth=birth,
        last=last,
        n_obs=n_obs,
        confirmed=n_obs >= confirm_hits,
        parent=none if parent is None else parent,
        merged_into=none if merged_into is None else merged_into,
        mean_link_llr=np.zeros(len(n_obs)),
        link_cost=np.zeros(len(n_obs)),
    )


def evidence_of(
    strengths, *, logits=None, bias=None, emitted=None, presence=None, depths=None
) -> Evidence:
    """Evidence with these strengths (0 = empty slot); the rest defaults to nothing to say."""
    strengths = np.asarray(strengths, dtype=np.float32)
    n_samples, n_layers, _ = strengths.shape
    logits = np.zeros((*strengths.shape, 2)) if logits is None else np.asarray(logits, dtype=float)
    bias = np.zeros((n_samples, logits.shape[3])) if bias is None else np.asarray(bias, dtype=float)
    emitted = np.zeros(n_samples, dtype=int) if emitted is None else np.asarray(emitted)
    presence = np.full(strengths.shape, np.nan) if presence is None else np.asarray(presence)
    depths = np.arange(1, n_layers + 1) / n_layers if depths is None else np.asarray(depths)
    latents = np.where(strengths > 0, np.arange(strengths.shape[2]), -1)
    observed = Observed(Observations(latents, strengths), strengths, strengths)
    novelty = dict.fromkeys(("fvu", "fvu_max", "l0_z", "rarity"), np.zeros(n_samples))
    directions = np.random.default_rng(0).normal(size=(*strengths.shape[1:], 8)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    attribution = Attribution(logits, bias, emitted)
    return Evidence(depths, observed, attribution, presence, novelty, directions, 0.5)


def random_case(
    rng: np.random.Generator, n_samples: int = 4, n_layers: int = 5, n_slots: int = 6
) -> tuple[Evidence, Tracks]:
    """Draw observations, links with splits and merges, and centred attributions."""
    shape = (n_samples, n_layers, n_slots)
    is_there = rng.random(shape) < rng.choice([0.2, 0.8, 1.0])
    strengths = np.where(is_there, rng.gamma(2.0, size=shape), 0.0)
    track_of, n_tracks = np.full(shape, -1), 0
    for sample in range(n_samples):
        live = np.zeros(0, dtype=int)
        for layer in range(n_layers):
            here = rng.permutation(np.flatnonzero(is_there[sample, layer]))
            n_old = rng.integers(0, min(len(here), len(live)) + 1)
            n_new = len(here) - n_old
            owners = [rng.permutation(live)[:n_old], n_tracks + np.arange(n_new)]
            track_of[sample, layer, here] = np.concatenate(owners)
            n_tracks += n_new
            live = np.unique(np.append(live, owners[1]))  # a track may miss any number of layers
    parent, merged_into = (_relatives(rng, track_of, n_tracks) for _ in range(2))
    logits = rng.normal(size=(*shape, 3)) * is_there[..., None]
    logits -= logits.mean(axis=-1, keepdims=True)
    bias = rng.normal(size=(n_samples, 3))
    presence = rng.random(shape)
    presence[rng.random(n_samples) < 0.3] = np.nan
    evidence = evidence_of(
        strengths,
        logits=logits,
        bias=bias,
        emitted=rng.integers(0, 3, n_samples),
        presence=presence,
    )
    return evidence, tracks_from(track_of, parent=parent, merged_into=merged_into)


def _relatives(rng: np.random.Generator, track_of: np.ndarray, n_tracks: int) -> np.ndarray:
    """For about a third of the tracks, another track of the same sample; -1 for the others."""
    relatives = np.full(n_tracks, -1)
    for own in track_of:
        numbers = np.unique(own[own >= 0])
        chosen = numbers[rng.random(len(numbers)) < 0.3]
        if len(chosen):
            relatives[chosen] = rng.choice(numbers, len(chosen))
    return relatives


def shuffle_slots(
    rng: np.random.Generator, evidence: Evidence, tracks: Tracks
) -> tuple[Evidence, Tracks]:
    """Put every layer's observations in another order; tracks keep their numbers."""
    order = rng.permuted(
        np.broadcast_to(np.arange(tracks.track_of.shape[2]), tracks.track_of.shape), axis=2
    )

    def put(values: np.ndarray) -> np.ndarray:
        return np.take_along_axis(values, order, axis=2)

    latents, magnitudes = evidence.observed.observations
    observed = Observed(
        Observations(put(latents), put(magnitudes)),
        put(evidence.observed.strengths),
        put(evidence.observed.acts),
    )
    logits = np.take_along_axis(evidence.attribution.logits, order[..., None], axis=2)
    attribution = evidence.attribution._replace(logits=logits)
    moved = {**tracks.arrays(), "track_of": put(tracks.track_of)}
    return (
        evidence._replace(
            observed=observed, attribution=attribution, presence=put(evidence.presence)
        ),
        Tracks.from_arrays(moved),
    )


def tiny_lm(folder: Path) -> LM:
    """Load one of the folders that `tests.support.tiny` writes."""
    config = ModelConfig(
        name="tiny",
        hub=None,
        path=str(folder),
        revision=None,
        n_layers=3,
        d_model=32,
        context=64,
        d_sae=64,
        extract_batch_size=4,
        training=TrainingConfig(8, 256, 2e-4, 1000, 80, 5),
        dtype=Dtype.fp32,
        prepend_bos=True,
        trust_remote_code=False,
    )
    return load_lm(config, folder, device="cpu")
