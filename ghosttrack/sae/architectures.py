"""Which latents are active during training, and what that means for the gradients."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, distributed

from ghosttrack.sae import compiled, fused
from ghosttrack.sae.compiled import SparseRows, is_compiled
from ghosttrack.sae.config import Architecture, SAEConfig

GROUP = 4
LEAST_CUT = 1e-6
"""Standardised pre-activation below which no threshold lies: only what is above 0 is active."""


class Ranks:
    """The processes that share a global batch; one alone where no process group is up.

    Args:
        reduce: False if each rank trains SAEs of its own, so that nothing is to be summed.
    """

    def __init__(self, *, reduce: bool = True) -> None:
        self.reduce = reduce

    @property
    def size(self) -> int:
        """Number of processes."""
        return distributed.get_world_size() if self.reduce and distributed.is_initialized() else 1

    def total(self, tensor: Tensor) -> Tensor:
        """Sum over the ranks, in place."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        """Put the ranks' tensors of equal shape side by side along the last axis."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        distributed.all_gather(parts, tensor.contiguous())
        return torch.cat(parts, dim=-1)


class Active(NamedTuple):
    """Activations as a dense matrix; 0 where a latent is not active."""

    acts: Float[Tensor, "hook batch latent"]
    cut: Float[Tensor, " hook"] | None
    """Smallest pre-activation that a batch's selection let pass."""
    fired: Bool[Tensor, "hook latent"] | None = None
    """Latents that are active on any token, where the selection saw them."""


class ThresholdTerms(NamedTuple):
    """What learned thresholds add to a step."""

    loss: Float[Tensor, " hook"]
    log_threshold: Float[Tensor, "hook latent"]
    """Gradient."""


@dataclass(frozen=True)
class TopK:
    """The k strongest of each token that are above 0."""

    k: int

    def dense(self, pre: Float[Tensor, "hook batch latent"], _: Tensor | None) -> Active:
        """Select among the pre-activations, which are overwritten on a CPU."""
        if is_compiled(pre):
            compiled.keep(pre.view(-1, pre.shape[-1]), self.k)
            return Active(pre, None)
        values, indices = strongest(pre, self.k)
        return Active(torch.zeros_like(pre).scatter_(-1, indices, values.relu()), None)

    def fused(self, pre: Float[Tensor, "hook batch latent"]) -> Active:
        """Select among the pre-activations, which are overwritten, by a row kernel of a GPU."""
        return Active(pre, None, fused.select(pre, self.k).fired)

    def sparse(self, pre: Float[Tensor, "batch latent"]) -> tuple[SparseRows, None]:
        """Select among one hook point's pre-activations."""
        values, indices = strongest(pre[None], self.k)
        return self.entries(values[0], indices[0]), None

    def entries(
        self, values: Float[Tensor, "batch k"], indices: Int64[Tensor, "batch k"]
    ) -> SparseRows:
        """Put k entries per token in CSR form."""
        starts = torch.arange(0, indices.numel() + 1, self.k, device=indices.device)
        return SparseRows(starts, values.relu().flatten(), indices.flatten())


@dataclass(frozen=True)
class BatchTopK:
    """The strongest of the global batch, k per token on average.

    At inference a threshold takes the place of the batch: the running mean of the cuts.
    """

    k: int
    ranks: Ranks

    def _cut(self, pre: Float[Tensor, "hook batch latent"]) -> Float[Tensor, " hook"]:
        return batch_cut(pre, self.k * pre.shape[1] * self.ranks.size, self.ranks.gather)

    def dense(self, pre: Float[Tensor, "hook batch latent"], _: Tensor | None) -> Active:
        """Select among the pre-activations."""
        cut = self._cut(pre)
        return Active(pre.masked_fill(pre < cut[:, None, None], 0.0).relu(), cut)

    def fused(self, pre: Float[Tensor, "hook batch latent"]) -> Active:
        """Select among the pre-activations, which are overwritten, by row kernels of a GPU."""
        n = self.k * pre.shape[1] * self.ranks.size
        cut = fused.batch_cut(pre, n, self.ranks.total)
        return Active(pre, cut, fused.above(pre, cut))

    def sparse(
        self, pre: Float[Tensor, "batch latent"]
    ) -> tuple[SparseRows, Float[Tensor, " hook"]]:
        """Select among one hook point's pre-activations."""
        cut = self._cut(pre[None])
        if is_compiled(pre):
            return compiled.above(pre, float(cut)), cut
        tokens, latents = ((pre >= cut) & (pre > 0)).nonzero(as_tuple=True)
        starts = torch.searchsorted(tokens, torch.arange(len(pre) + 1, device=pre.device))
        return SparseRows(starts, pre[tokens, latents], latents), cut


@dataclass(frozen=True)
class JumpReLU:
    """Those above a threshold of their own, which learns by straight-through estimates.

    Source: Rajamanoharan et al. 2024, section 3, with a rectangle of width `bandwidth` as kernel.
    The loss of L0 is relative to a wanted k, so that one coefficient serves every width.
    """

    k: int
    ranks: Ranks
    bandwidth: float
    l0_coef: float

    def dense(
        self,
        pre: Float[Tensor, "hook batch latent"],
        log_threshold: Float[Tensor, "hook latent"] | None,
    ) -> Active:
        """Select among the pre-activations."""
        assert log_threshold is not None
        return Active(pre.masked_fill(pre <= log_threshold.exp()[:, None], 0.0), None)

    def threshold_terms(
        self,
        pre: Float[Tensor, "hook batch latent"],
        active: Active,
        d_acts: Float[Tensor, "hook batch latent"],
        log_threshold: Float[Tensor, "hook latent"],
    ) -> ThresholdTerms:
        """Let the pre-activations near a threshold move it.

        There d acts / d threshold = -threshold / bandwidth, d L0 / d threshold = -1 / bandwidth.
        """
        threshold = log_threshold.exp()
        n_active = self.ranks.total((active.acts > 0).sum((1, 2)).to(threshold.dtype))
        excess = n_active / (pre.shape[1] * self.ranks.size * self.k) - 1
        near = (pre - threshold[:, None]).abs() < self.bandwidth / 2
        d_l0 = 2 * self.l0_coef * excess / (self.k * pre.shape[1])
        through_acts = (d_acts * near).sum(1, dtype=threshold.dtype) * threshold
        through_l0 = near.sum(1).to(threshold.dtype) * d_l0[:, None]
        gradient = -(through_acts + through_l0) / self.bandwidth * threshold
        return ThresholdTerms(self.l0_coef * excess.square(), gradient)


Rule = TopK | BatchTopK | JumpReLU


def make_rule(config: SAEConfig, ranks: Ranks) -> Rule:
    """Build the rule that the settings name."""
    if config.architecture is Architecture.topk:
        return TopK(config.k)
    if config.architecture is Architecture.jumprelu:
        assert config.bandwidth is not None
        assert config.l0_coef is not None
        return JumpReLU(config.k, ranks, config.bandwidth, config.l0_coef)
    return BatchTopK(config.k, ranks)


def strongest(
    pre_acts: Float[Tensor, "hook batch latent"], k: int
) -> tuple[Float[Tensor, "hook batch k"], Int[Tensor, "hook batch k"]]:
    """Select the k largest of each row exactly, in no particular order: values and indices.

    Without the compiled kernels in two stages on a CPU, where that is cheaper: the k largest lie
    within the k groups of largest maximum, and taking maxima is vectorised while selection is not.
    """
    if is_compiled(pre_acts):
        values, indices = compiled.select(pre_acts.detach().flatten(0, 1).contiguous(), k)
        shape = (*pre_acts.shape[:2], k)
        return values.view(shape), indices.view(shape)
    d_sae = pre_acts.shape[-1]
    if pre_acts.device.type != "cpu" or d_sae % GROUP or 8 * k > d_sae:
        values, indices = pre_acts.topk(k, dim=-1, sorted=False)
        return values, indices
    n_groups = d_sae // GROUP
    maxima = pre_acts.unflatten(-1, (GROUP, n_groups)).amax(-2)
    groups = maxima.topk(k, dim=-1, sorted=False).indices
    members = torch.arange(0, d_sae, n_groups)[:, None]
    candidates = (groups[..., None, :] + members).flatten(-2)
    values, chosen = pre_acts.gather(-1, candidates).topk(k, dim=-1, sorted=False)
    return values, candidates.gather(-1, chosen)


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
