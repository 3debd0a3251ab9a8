"""From residual streams to what the tracker sees: latents, with magnitudes free of scale.

A latent's strength is its pre-activation over the root mean square of the residual stream that it
was read from, both in the bank's units, so that a longer residual vector is not a stronger
hypothesis. Its magnitude is that strength standardised per layer on unlabelled text.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import sparse
from torch import Tensor

from ghosttrack.sae.bank import Acts, Bank
from ghosttrack.tracking.observations import Observations

Residuals = Float[np.ndarray, "layer sample d_model"]
"""In the model's own units."""
Slots = Float[np.ndarray, "sample layer obs"]
Latents = Int[np.ndarray, "sample layer obs"]
"""-1 where the slot is empty."""
BLOCK_FLOATS = 2**24
"""Pre-activations held at once: 64 MiB in fp32."""


class Standard(NamedTuple):
    """What strength is usual at each layer; from unlabelled text."""

    mean: Float[np.ndarray, " layer"]
    sd: Float[np.ndarray, " layer"]


class StrongestLatents(NamedTuple):
    """The strongest latents of each layer."""

    latents: Latents
    """-1 where the slot is empty."""
    strengths: Slots
    """0 where the slot is empty, and so the next."""
    acts: Slots
    """Pre-activations in the residual stream's units."""


class Observed(NamedTuple):
    """Observations and the two readings of their size that statistics need."""

    observations: Observations
    strengths: Slots
    """Pre-activation over the residual's root mean square, above 0; 0 where the slot is empty."""
    acts: Slots
    """What the latent writes along its direction, in the residual stream's own units: 0 where it is
    not among the bank's active ones, since the reconstruction does not hold it."""


def observe(bank: Bank, residuals: Residuals, top_k: int, standard: Standard) -> Observed:
    """Take each layer's strongest positive pre-activations as observations.

    Args:
        bank: Its hook points are the residuals' layers, in the same order.
        residuals: In the model's own units.
        top_k: Observations per layer and sample, which may exceed the bank's k; a slot is empty
            (latent -1) where fewer latents have a positive pre-activation.
        standard: Constants of the same bank and `top_k`.
    """
    return _observed(bank, _strongest(bank, residuals, top_k), standard)


def observe_pooled(
    bank: Bank,
    streams: Iterable[tuple[list[int], Float[Tensor, "layer _ _ d_model"]]],
    top_k: int,
    standard: Standard,
) -> Observed:
    """Observe every latent where it is strongest, whatever the position.

    Args:
        bank: Its hook points are the streams' layers, in the same order.
        streams: Numbers of some samples with their residual streams; together all samples.
        top_k: As in `observe`.
        standard: Of single positions, of which the strongest is above the mean.
    """
    parts, order = [], []
    for rows, x in streams:
        parts.append(_pool(bank, x.to(bank.W_enc.device), min(top_k, bank.d_sae)))
        order += rows
    back = np.argsort(order)
    found = (np.concatenate(pieces)[back] for pieces in zip(*parts, strict=True))
    return _observed(bank, StrongestLatents(*found), standard)


@torch.no_grad()
def _pool(bank: Bank, x: Float[Tensor, "layer batch pos d_model"], n_obs: int) -> StrongestLatents:
    """Take the strongest latents over all positions of each sample."""
    n_layers, n_samples, n_pos, _ = x.shape
    rms = x.square().mean(dim=-1).sqrt().clamp_min(torch.finfo(x.dtype).tiny)
    acts = bank.pre_acts(x.flatten(1, 2)).view(n_layers, n_samples, n_pos, -1).relu()
    most = (acts / rms[..., None]).max(dim=2)
    latents = most.values.topk(n_obs, dim=-1).indices.sort(dim=-1).values
    strengths = most.values.gather(-1, latents)
    at = most.indices.gather(-1, latents)
    rms = rms[..., None].expand(-1, -1, -1, n_obs).gather(2, at[:, :, None])[:, :, 0]
    latents = torch.where(strengths > 0, latents, -1)
    return StrongestLatents(
        *(one.transpose(0, 1).cpu().numpy() for one in (latents, strengths, strengths * rms))
    )


def _observed(bank: Bank, found: StrongestLatents, standard: Standard) -> Observed:
    """Standardise strengths, and leave out what the bank does not write."""
    latents, strengths, acts = found
    there = latents >= 0
    standardised = (strengths - standard.mean[:, None]) / standard.sd[:, None]
    magnitudes = np.where(there, standardised, 0.0).astype(np.float32)
    acts = np.where(_is_active(bank, latents, acts), acts, 0.0)
    return Observed(Observations(latents, magnitudes), strengths, acts)


def _is_active(bank: Bank, latents: Latents, acts: Slots) -> Bool[np.ndarray, "sample layer obs"]:
    """Tell which pre-activations the bank itself would keep."""
    n_obs = latents.shape[2]
    if bank.threshold is not None:
        threshold = (bank.threshold / bank.scale[:, None]).detach().cpu().numpy()
        return acts > threshold[np.arange(len(threshold))[:, None], latents]
    if n_obs <= bank.k:
        return acts > 0
    return acts >= np.partition(acts, n_obs - bank.k, axis=2)[:, :, n_obs - bank.k, None]


def fit_standard(bank: Bank, residuals: Residuals, top_k: int) -> Standard:
    """Measure mean and standard deviation of strength per layer on unlabelled text.

    A layer whose strengths do not vary keeps a standard deviation of 1.
    """
    latents, strengths, _ = _strongest(bank, residuals, top_k)
    there = latents >= 0
    n = np.maximum(there.sum(axis=(0, 2)), 1)
    mean = strengths.sum(axis=(0, 2), dtype=np.float64) / n
    spread = np.where(there, strengths - mean[:, None], 0.0)
    sd = np.sqrt((spread**2).sum(axis=(0, 2)) / n)
    return Standard(mean, np.where(sd > 0, sd, 1.0))


@torch.no_grad()
def strengths_of(bank: Bank, residuals: Residuals, latents: Latents) -> Slots:
    """Measure the strengths of given latents in other residuals; 0 where silent or empty (-1)."""
    parts, start = [], 0
    for x in blocks(bank, residuals):
        wanted = torch.from_numpy(latents[start : start + x.shape[1]]).to(x.device)
        start += x.shape[1]
        pre_acts = bank.pre_acts(x).transpose(0, 1).gather(2, wanted.clamp_min(0))
        parts.append(torch.where(wanted >= 0, pre_acts, 0.0).float().cpu().numpy())
    return _over_rms(np.concatenate(parts), residuals)


@torch.no_grad()
def raw_latents(bank: Bank, residuals: Residuals) -> list[sparse.csr_array]:
    """Encode every residual: one sparse table `[sample d_sae]` of SAE activations per layer."""
    values, indices = _read(bank, residuals, bank.encode)
    n_samples, n_layers, k = indices.shape
    indices = indices.astype(np.int32)  # scikit-learn takes no wider ones
    rows = np.repeat(np.arange(n_samples, dtype=np.int32), k)
    tables = []
    for layer in range(n_layers):
        entries = (values[:, layer].ravel(), (rows, indices[:, layer].ravel()))
        table = sparse.csr_array(entries, shape=(n_samples, bank.d_sae))
        table.eliminate_zeros()
        tables.append(table)
    return tables


@torch.no_grad()
def _strongest(bank: Bank, residuals: Residuals, top_k: int) -> StrongestLatents:
    """Rank the pre-activations of each layer."""
    n_obs = min(top_k, bank.d_sae)
    values, indices = _read(bank, residuals, partial(bank.observe, top_k=n_obs))
    acts = np.maximum(values, 0.0) / bank.scale.cpu().numpy()[:, None]
    return StrongestLatents(np.where(acts > 0, indices, -1), _over_rms(acts, residuals), acts)


def _over_rms(acts: Slots, residuals: Residuals) -> Slots:
    """Divide by the root mean square of the residual, both in its units; negative becomes 0."""
    square = np.einsum("lnd,lnd->nl", residuals, residuals)[:, :, None]
    rms = np.sqrt(np.maximum(square / residuals.shape[-1], np.finfo(np.float32).tiny))
    return (np.maximum(acts, 0.0) / rms).astype(np.float32)


def blocks(bank: Bank, residuals: Residuals) -> Iterator[Float[Tensor, "layer block d_model"]]:
    """Cut the samples so that a block's pre-activations fit `BLOCK_FLOATS`."""
    size = max(1, BLOCK_FLOATS // (len(residuals) * bank.d_sae))
    device = bank.W_enc.device
    for start in range(0, residuals.shape[1], size):
        yield torch.from_numpy(residuals[:, start : start + size]).to(device)


def _read(
    bank: Bank, residuals: Residuals, read: Callable[[Float[Tensor, "layer block d_model"]], Acts]
) -> tuple[Slots, Latents]:
    """Have the bank read all samples: values and indices of latents."""
    parts = zip(*(read(x) for x in blocks(bank, residuals)), strict=True)
    values, indices = (torch.cat(part, dim=1).transpose(0, 1).cpu() for part in parts)
    return values.float().numpy(), indices.numpy().astype(np.int64)
