"""Evidence and tracks made by hand or at random, small enough to add up on paper."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ghosttrack.detector.table import StatisticSpec, Table
from ghosttrack.detector.tracks.attribution import Attribution, Evidence
from ghosttrack.detector.tracks.life_cycle import LengthNull
from ghosttrack.detector.tracks.novelty import fit_usual
from ghosttrack.detector.tracks.observe import Observed, fit_standard, observe
from ghosttrack.detector.tracks.streaming import Instruments
from ghosttrack.models.lm import LM
from ghosttrack.models.load import load_lm
from ghosttrack.sae.bank import Bank
from ghosttrack.tracking.observations import Observations, TrackerSettings
from ghosttrack.tracking.tracker import fit_tracker
from ghosttrack.tracking.tracks import Tracks
from tests.models.conftest import model_config

TOP_K = 12


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
    return load_lm(model_config(path=str(folder), context=64), folder, device="cpu")


def instruments_of(lm: LM, text: np.ndarray, d_sae: int, settings: TrackerSettings) -> Instruments:
    """A bank that reads in the random directions in which it writes, and what text is usual to it.

    Args:
        lm: Of three blocks.
        text: Residual streams, [layer token d_model].
        d_sae: Latents per layer.
        settings: Of the tracker.
    """
    bank = Bank(["layer_0", "layer_1", "layer_2"], lm.d_model, d_sae, 8)
    rows = torch.randn(bank.W_dec.shape, generator=torch.Generator().manual_seed(0))
    bank.W_dec.data = rows / rows.norm(dim=-1, keepdim=True)
    bank.W_enc.data = bank.W_dec.data.transpose(1, 2).clone()
    bank.scale.fill_(1.0)
    bank.requires_grad_(False)
    standard = fit_standard(bank, text, TOP_K)
    seen = observe(bank, text, TOP_K, standard).observations
    usual = fit_usual(bank, text, seen.latents)
    tracker = fit_tracker(tuple(bank.directions.numpy()), seen, settings)
    return Instruments(bank, (0, 1, 2), standard, usual, tracker, LengthNull(2.0, 1.0), TOP_K)


def keeps_ranges(table: Table, specs: Sequence[StatisticSpec], slack: float = 0.0) -> None:
    """Check every number that is there against the range that its statistic states."""
    for spec in specs:
        values = table.column(spec.name)
        known = values[~np.isnan(values)]
        assert ((known >= spec.low - slack) & (known <= spec.high + slack)).all(), (spec, known)
