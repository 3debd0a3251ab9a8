"""The products of a TopK step, as dense GEMMs or as sparse row operations."""

import warnings
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ghosttrack.sae.config import KernelChoice

GROUP = 4
SPARSE_BELOW = 0.065
"""k / d_sae up to which a sparse step wins on a CPU: 0.065 at d 768, h 4096; 0.13 at d 128."""


class Strongest(NamedTuple):
    """The largest entries of each row, in no particular order."""

    values: Float[Tensor, "hook batch k"]
    indices: Int[Tensor, "hook batch k"]


def strongest(pre_acts: Float[Tensor, "hook batch latent"], k: int) -> Strongest:
    """Select the k largest of each row exactly.

    On a CPU in two stages where that is cheaper: the k largest lie within the k groups of largest
    maximum, and taking maxima is vectorised while selection is not.
    """
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


class WeightGradients(NamedTuple):
    """Gradients that sum over tokens; rows are latents."""

    W_enc: Float[Tensor, "hook d_model latent"]
    b_enc: Float[Tensor, "hook latent"]
    W_dec: Float[Tensor, "hook latent d_model"]


class Dense:
    """GEMMs over all latents: right where k / d_sae is large, and on a GPU.

    `decode` reconstructs without the bias; `live` projects the reconstruction's gradient on the
    decoder rows that `indices` name; `weights` accumulates the weights' gradients over the tokens.
    """

    def __init__(self, d_sae: int) -> None:
        self.d_sae = d_sae

    def _spread(
        self, values: Float[Tensor, "hook batch k"], indices: Int[Tensor, "hook batch k"]
    ) -> Float[Tensor, "hook batch latent"]:
        zeros = values.new_zeros(*values.shape[:2], self.d_sae)
        return zeros.scatter_(-1, indices, values)

    def decode(
        self,
        values: Float[Tensor, "hook batch k"],
        indices: Int[Tensor, "hook batch k"],
        rows: Float[Tensor, "hook latent d_model"],
    ) -> Float[Tensor, "hook batch d_model"]:
        """One product with the decoder."""
        return torch.bmm(self._spread(values, indices), rows)

    def live(
        self,
        gradient: Float[Tensor, "hook batch d_model"],
        indices: Int[Tensor, "hook batch k"],
        rows: Float[Tensor, "hook latent d_model"],
    ) -> Float[Tensor, "hook batch k"]:
        """One product with the decoder's transpose, of which k columns a token are kept."""
        return torch.bmm(gradient, rows.mT).gather(-1, indices)

    def weights(
        self,
        acts: Strongest,
        d_values: Float[Tensor, "hook batch k"],
        inputs: Float[Tensor, "hook batch d_model"],
        gradient: Float[Tensor, "hook batch d_model"],
    ) -> WeightGradients:
        """Two products over the tokens."""
        d_pre = self._spread(d_values, acts.indices)
        return WeightGradients(
            torch.bmm(inputs.mT, d_pre),
            d_pre.sum(1),
            torch.bmm(self._spread(acts.values, acts.indices).mT, gradient),
        )


class Sparse:
    """The same in O(batch k d_model): gathers of decoder rows, an inverted index of tokens."""

    def __init__(self, d_sae: int) -> None:
        self.d_sae = d_sae

    def decode(
        self,
        values: Float[Tensor, "hook batch k"],
        indices: Int[Tensor, "hook batch k"],
        rows: Float[Tensor, "hook latent d_model"],
    ) -> Float[Tensor, "hook batch d_model"]:
        """Sum the live rows."""
        return rows_sum(values, indices, rows)

    def live(
        self,
        gradient: Float[Tensor, "hook batch d_model"],
        indices: Int[Tensor, "hook batch k"],
        rows: Float[Tensor, "hook latent d_model"],
    ) -> Float[Tensor, "hook batch k"]:
        """Sample the product with the decoder's transpose at the live entries."""
        batch, k = indices.shape[1:]
        starts = torch.arange(0, batch * k + 1, k, device=indices.device)
        blank = gradient.new_zeros(batch * k)
        sampled = torch.empty(indices.shape, dtype=gradient.dtype, device=indices.device)
        with warnings.catch_warnings():
            # torch says once that CSR tensors are in beta; this use is held by a test
            warnings.simplefilter("ignore", UserWarning)
            for hook, latents in enumerate(indices):
                at = torch.sparse_csr_tensor(starts, latents.flatten(), blank, (batch, self.d_sae))
                product = torch.sparse.sampled_addmm(at, gradient[hook], rows[hook].T, beta=0.0)
                sampled[hook] = product.values().view(batch, k)
        return sampled

    def weights(
        self,
        acts: Strongest,
        d_values: Float[Tensor, "hook batch k"],
        inputs: Float[Tensor, "hook batch d_model"],
        gradient: Float[Tensor, "hook batch d_model"],
    ) -> WeightGradients:
        """Sum, per latent, the tokens on which it is live."""
        n_hooks, _, k = acts.indices.shape
        device = acts.indices.device
        hooks = torch.arange(n_hooks, device=device)[:, None, None]
        latents, order = (acts.indices + self.d_sae * hooks).flatten().sort()
        starts = torch.searchsorted(latents, torch.arange(n_hooks * self.d_sae, device=device))
        tokens = order.div(k, rounding_mode="floor")

        def per_latent(
            rows: Float[Tensor, "hook batch d"], weights: Float[Tensor, "hook batch k"]
        ) -> Float[Tensor, "hook latent d"]:
            return F.embedding_bag(
                tokens,
                rows.flatten(0, 1),
                starts,
                mode="sum",
                per_sample_weights=weights.flatten()[order],
            ).view(n_hooks, self.d_sae, -1)

        b_enc = d_values.new_zeros(n_hooks, self.d_sae)
        return WeightGradients(
            per_latent(inputs, d_values).mT,
            b_enc.scatter_add_(1, acts.indices.flatten(1), d_values.flatten(1)),
            per_latent(gradient, acts.values),
        )


Kernels = Dense | Sparse


def choose(choice: KernelChoice, k: int, d_sae: int, device: torch.device) -> Kernels:
    """Take the products that win for these shapes on this device, unless `choice` forces them."""
    if choice is KernelChoice.auto:
        sparse = device.type == "cpu" and k < SPARSE_BELOW * d_sae
    else:
        sparse = choice is KernelChoice.sparse
    return Sparse(d_sae) if sparse else Dense(d_sae)
