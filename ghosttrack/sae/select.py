"""The largest entries of pre-activations, exactly, and sums of the rows that they name."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ghosttrack import jit
from ghosttrack.sae import compiled

GROUP = 4
LEAST_CUT = 1e-6
"""Standardised pre-activation below which no threshold lies: only what is above 0 is active."""


class Strongest(NamedTuple):
    """The largest entries of each row, in no particular order."""

    values: Float[Tensor, "hook batch k"]
    indices: Int[Tensor, "hook batch k"]


def is_compiled(tensor: Tensor) -> bool:
    """Tell whether the compiled kernels can take it."""
    on_cpu = jit.AVAILABLE and tensor.device.type == "cpu"
    no_gradient = not (torch.is_grad_enabled() and tensor.requires_grad)
    return on_cpu and no_gradient and tensor.dtype in (torch.float32, torch.float64)


def strongest(pre_acts: Float[Tensor, "hook batch latent"], k: int) -> Strongest:
    """Select the k largest of each row exactly.

    Without the compiled kernels in two stages on a CPU, where that is cheaper: the k largest lie
    within the k groups of largest maximum, and taking maxima is vectorised while selection is not.
    """
    if is_compiled(pre_acts):
        values, indices = compiled.select(pre_acts.detach().flatten(0, 1).contiguous(), k)
        shape = (*pre_acts.shape[:2], k)
        return Strongest(values.view(shape), indices.view(shape))
    d_sae = pre_acts.shape[-1]
    if pre_acts.device.type != "cpu" or d_sae % GROUP or 8 * k > d_sae:
        return Strongest(*pre_acts.topk(k, dim=-1, sorted=False))
    n_groups = d_sae // GROUP
    maxima = pre_acts.unflatten(-1, (GROUP, n_groups)).amax(-2)
    groups = maxima.topk(k, dim=-1, sorted=False).indices
    members = torch.arange(0, d_sae, n_groups)[:, None]
    candidates = (groups[..., None, :] + members).flatten(-2)
    values, chosen = pre_acts.gather(-1, candidates).topk(k, dim=-1, sorted=False)
    return Strongest(values, candidates.gather(-1, chosen))


def batch_cut(
    pre_acts: Float[Tensor, "hook batch latent"], n: int, gather: Callable[[Tensor], Tensor]
) -> Float[Tensor, " hook"]:
    """Find the n-th largest entry over the batches of all ranks, per hook point.

    Args:
        pre_acts: Of this rank.
        n: Of the global batch.
        gather: Puts the ranks' tensors side by side along the last axis.
    """
    flat = pre_acts.flatten(1)
    n_here = min(n, flat.shape[1])
    candidates = gather(torch.stack([_largest(hook, n_here) for hook in flat]))
    return candidates.topk(n, dim=1, sorted=False).values.amin(1)


def _largest(entries: Float[Tensor, " entry"], n: int) -> Float[Tensor, " n"]:
    """Select the n largest; on a CPU among those above a guess from a sample."""
    if entries.device.type == "cpu" and n < len(entries) // 8:
        sample = entries[:: len(entries) // 2**16 | 1]  # odd: not always the same latents
        rank = max(1, len(sample) - 2 * n * len(sample) // len(entries) - 8)
        above = entries[entries >= sample.kthvalue(rank).values]
        entries = above if len(above) >= n else entries
    return entries.topk(n, sorted=False).values


def rows_sum(
    values: Float[Tensor, "hook batch k"],
    indices: Int[Tensor, "hook batch k"],
    rows: Float[Tensor, "hook latent d_model"],
) -> Float[Tensor, "hook batch d_model"]:
    """Sum `values` times the rows that `indices` name, without a dense matrix of activations."""
    n_hooks, batch, _ = indices.shape
    offset = torch.arange(0, n_hooks * rows.shape[1], rows.shape[1], device=indices.device)
    flat = (indices + offset[:, None, None]).flatten(0, 1)
    bags = F.embedding_bag(
        flat, rows.flatten(0, 1), per_sample_weights=values.flatten(0, 1), mode="sum"
    )
    return bags.view(n_hooks, batch, -1)
