"""Name the hypotheses: which candidate token each observation, and each track, argues for.

Direct logit attribution: an observation that writes `a * d` into the residual stream adds
`a * <d, readout(y)> / scale` to the logit of token y, through the final norm as it stood in that
pass. Attributions are centred over the candidates, since a constant added to all logits changes
nothing: positive means "for y rather than for its rivals".
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from ghosttrack.detector.tracks.novelty import Usual, novelty
from ghosttrack.detector.tracks.observe import Observed, Slots, Standard, observe, strengths_of
from ghosttrack.models.lm import LM
from ghosttrack.models.readings import Readings
from ghosttrack.sae.bank import Bank
from ghosttrack.tracking.observations import Observations
from ghosttrack.tracking.tracks import Tracks


class Attribution(NamedTuple):
    """How much each observation speaks for each candidate, in logits, centred over candidates."""

    logits: Float[np.ndarray, "sample layer obs candidate"]
    """0 where the slot is empty."""
    bias: Float[np.ndarray, "sample candidate"]
    """What no latent says: the bank's b_dec at its deepest layer, and the model's biases."""
    emitted: Int[np.ndarray, " sample"]
    """Column of the token that the model emitted."""


class Evidence(NamedTuple):
    """All that track statistics read besides the tracks; real and null tracks share it."""

    depths: Float[np.ndarray, " layer"]
    """In (0, 1], ascending."""
    observed: Observed
    attribution: Attribution
    presence: Slots
    """What is left of each observation's strength when the subject is masked, in [0, 1]; NaN where
    no subject was found."""
    novelty: Mapping[str, Float[np.ndarray, " sample"]]
    """Columns of family G, which no track has a part in."""
    directions: Float[np.ndarray, "layer d_sae d_model"]
    """Unit direction of every latent."""
    near: float
    """Cosine above which two tracks carry one direction."""


class Promotion(NamedTuple):
    """What each track argues for at the last layer where it was seen."""

    candidates: Int[np.ndarray, " track"]
    """Column in the sample's candidates."""
    logits: Float[np.ndarray, " track"]
    """Its centred attribution to that candidate, at least 0."""


def gather(
    lm: LM, bank: Bank, readings: Readings, top_k: int, standard: Standard, usual: Usual
) -> Evidence:
    """Observe the readings, attribute every observation, compare with masked prompt and text."""
    observed = observe(bank, readings.residuals, top_k, standard)
    return attribute(lm, bank, readings, observed, usual)


def attribute(lm: LM, bank: Bank, readings: Readings, observed: Observed, usual: Usual) -> Evidence:
    """Do the same with observations that are there already, in the order of the readings."""
    readouts, emitted = _readouts(lm, readings)
    directions = bank.directions.detach().cpu().numpy()
    logits = direct_logits(observed, directions, readouts, readings.scales)
    base = (bank.b_dec / bank.scale[:, None])[-1].detach().cpu().numpy()  # without any latent
    bias = readouts @ base / readings.scales[:, None] + readings.offsets
    attribution = Attribution(logits, bias - bias.mean(axis=1, keepdims=True), emitted)
    new = novelty(bank, readings.residuals, observed.observations.latents, usual)
    presence = _presence(bank, readings, observed)
    return Evidence(
        readings.depths, observed, attribution, presence, new, directions, float(usual.near)
    )


def answer_reader(lm: LM, readings: Readings) -> Float[np.ndarray, "sample d_model"]:
    """Give the direction that reads the attribution to the emitted token off what a latent writes.

    Centred over the candidates, as `direct_logits` is.
    """
    readouts, emitted = _readouts(lm, readings)
    centred = readouts[np.arange(len(readouts)), emitted] - readouts.mean(axis=1)
    return centred / readings.scales[:, None]


def _readouts(
    lm: LM, readings: Readings
) -> tuple[Float[np.ndarray, "sample candidate d_model"], Int[np.ndarray, " sample"]]:
    """Directions that read candidates' logits, and which candidate was emitted."""
    readouts = lm.readout(torch.from_numpy(readings.candidates)).float().cpu().numpy()
    return readouts, (readings.candidates == readings.emitted[:, None]).argmax(axis=1)


def in_order(order: Int[np.ndarray, " layer"], evidence: Evidence) -> Evidence:
    """Put the evidence's layers in the order in which a null tracked them; depths stay."""
    observations, strengths, acts = evidence.observed
    moved = Observations(*(values[:, order] for values in observations))
    return evidence._replace(
        observed=Observed(moved, strengths[:, order], acts[:, order]),
        attribution=evidence.attribution._replace(logits=evidence.attribution.logits[:, order]),
        presence=evidence.presence[:, order],
        directions=evidence.directions[order],
    )


def direct_logits(
    observed: Observed,
    directions: Float[np.ndarray, "layer d_sae d_model"],
    readouts: Float[np.ndarray, "sample candidate d_model"],
    scales: Float[np.ndarray, " sample"],
) -> Float[np.ndarray, "sample layer obs candidate"]:
    """Attribute observations to candidates; centred over candidates, 0 in empty slots.

    The dot product of a residual with a readout makes a candidate's logit; `scales` are the final
    norm's divisors.
    """
    latents, acts = observed.observations.latents, observed.acts
    centred = (readouts - readouts.mean(axis=1, keepdims=True)) / scales[:, None, None]
    read = np.ascontiguousarray(centred.transpose(0, 2, 1), dtype=np.float32)
    logits = np.empty((*latents.shape, readouts.shape[1]), dtype=np.float32)
    for layer, rows in enumerate(directions.astype(np.float32, copy=False)):
        for sample, latent in enumerate(latents[:, layer]):
            np.matmul(rows[latent], read[sample], out=logits[sample, layer])
    logits *= acts[..., None]  # empty slots (latent -1) have act 0
    return logits


def promote(tracks: Tracks, attribution: Attribution) -> Promotion:
    """Find the candidate that each track speaks for most at its last observation."""
    logits = attribution.logits[last_places(tracks)]
    best = logits.argmax(axis=1)
    return Promotion(best, np.maximum(logits[np.arange(len(best)), best], 0.0))


def last_places(
    tracks: Tracks,
) -> tuple[Int[np.ndarray, " track"], Int[np.ndarray, " track"], Int[np.ndarray, " track"]]:
    """Find sample, layer and slot of every track's last observation."""
    sample, layer, slot = np.nonzero(tracks.track_of >= 0)  # layers ascend within a sample
    last = np.zeros(len(tracks), dtype=np.int64)
    last[tracks.track_of[sample, layer, slot]] = np.arange(len(sample))
    return sample[last], layer[last], slot[last]


def promoted_tokens(
    promotion: Promotion,
    tracks: Tracks,
    candidates: Int[np.ndarray, "sample candidate"],
    decode: Callable[[Sequence[int]], str],
) -> list[str]:
    """Spell the candidate that each track promotes, for people to read."""
    tokens = candidates[tracks.sample, promotion.candidates]
    names = {token: decode([token]).strip() for token in np.unique(tokens).tolist()}
    return [names[token] for token in tokens.tolist()]


def _presence(bank: Bank, readings: Readings, observed: Observed) -> Slots:
    """Compare each latent's strength with its strength under the mask: min(1, masked / own)."""
    presence = np.full(observed.strengths.shape, np.nan, dtype=np.float32)
    has_subject = np.isfinite(readings.masked).all(axis=(0, 2))
    if not has_subject.any():
        return presence
    own = observed.strengths[has_subject]
    latents = observed.observations.latents[has_subject]
    masked = strengths_of(bank, readings.masked[:, has_subject], latents)
    presence[has_subject] = np.minimum(masked, own) / np.where(own > 0, own, 1.0)
    return presence


MOST_PRODUCTS = 10**11
"""Multiplications that naming latents may take: a second or two."""
N_WORDS = 5


def spoken_tokens(
    lm: LM, bank: Bank, observations: Observations, batch: int = 1024
) -> dict[str, str]:
    """Spell the tokens whose logits the observed latents raise most, read through the final norm.

    Of large models the latents that are observed most, as far as `MOST_PRODUCTS` go.

    Returns:
        Tokens by `<layer's place>/<latent>`.
    """
    seen = [
        (int(n), layer, int(latent))
        for layer, latents in enumerate(np.moveaxis(observations.latents, 1, 0))
        for latent, n in zip(*np.unique(latents[latents >= 0], return_counts=True), strict=True)
    ]
    seen = sorted(seen, reverse=True)[: MOST_PRODUCTS // (lm.d_vocab * lm.d_model)]
    readout = lm.readout(torch.arange(lm.d_vocab))
    found: dict[str, str] = {}
    for start in range(0, len(seen), batch):
        _, layers, latents = (list(one) for one in zip(*seen[start : start + batch], strict=True))
        directions = bank.directions[layers, latents].to(readout.device, readout.dtype)
        best = (directions @ readout.T).topk(min(N_WORDS, lm.d_vocab)).indices.tolist()
        for layer, latent, ids in zip(layers, latents, best, strict=True):
            found[f"{layer}/{latent}"] = " ".join(lm.decode([one]).strip() for one in ids)
    return found
