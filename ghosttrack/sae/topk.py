"""One training step of a TopK bank: loss and gradients in a single pass, written by hand.

For each hook point, with x in units where E||x - mean||^2 = d_model:

    pre   = (x - b_dec) W_enc + b_enc
    x_hat = TopK(ReLU(pre), k) W_dec + b_dec
    loss  = ||x - x_hat||^2 / d_model + auxk_coef * AuxK

AuxK (Gao et al. 2024, appendix A.2): the k_aux = d_model / 2 strongest dead latents reconstruct
the residual x - x_hat, taken as given, without b_dec; their error is divided by the residual's
variance over the batch. Both the decoder and the encoder of dead latents learn from it.

The error is x_hat - x = acts W_dec - (x - b_dec), so b_dec's gradient is the sum of the error's
and of what the encoder sends back; neither needs a product over tokens.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ghosttrack.sae.kernels import Kernels, Strongest, strongest


class Weights(NamedTuple):
    """The parameters of some hook points, or their gradients."""

    W_enc: Float[Tensor, "hook d_model d_sae"]
    b_enc: Float[Tensor, "hook d_sae"]
    W_dec: Float[Tensor, "hook d_sae d_model"]
    b_dec: Float[Tensor, "hook d_model"]


class StepSettings(NamedTuple):
    """What a step needs besides tensors."""

    k: int
    auxk_coef: float
    kernels: Kernels
    total: Callable[[Tensor], Tensor]
    """Sums a tensor over the ranks."""
    world_size: int


class Step(NamedTuple):
    """What one step yields per hook point."""

    loss: Float[Tensor, " hook"]
    """Whose mean over ranks is the loss of the global batch."""
    fvu: Float[Tensor, " hook"]
    """Of the global batch: squared error over d_model, the variance of the first sample."""
    auxk: Float[Tensor, " hook"]
    """AuxK times its weight, of this rank."""
    fired: Bool[Tensor, "hook d_sae"]
    """Latents that are active anywhere in the global batch."""
    gradients: Weights


class Batch(NamedTuple):
    """Sums over the tokens of all ranks."""

    squared: Float[Tensor, " hook"]
    """Squared error."""
    variance: Float[Tensor, " hook"]
    """Squared distance of the errors from their mean."""
    fired: Bool[Tensor, "hook d_sae"]


def _totals(
    error: Float[Tensor, "hook batch d_model"], acts: Strongest, d_sae: int, settings: StepSettings
) -> Batch:
    n_hooks, batch, d_model = error.shape
    live = error.new_zeros(n_hooks, d_sae)
    live.scatter_add_(1, acts.indices.flatten(1), (acts.values > 0).to(error.dtype).flatten(1))
    sums = torch.cat([error.square().sum((1, 2))[:, None], error.sum(1), live], dim=1)
    squared, total, live = settings.total(sums).split([1, d_model, d_sae], dim=1)
    squared, n_tokens = squared[:, 0], batch * settings.world_size
    return Batch(squared, squared - total.square().sum(1) / n_tokens, live > 0)


class Auxiliary(NamedTuple):
    """AuxK's share of the loss, and its gradients at the latents `at`."""

    loss: Float[Tensor, " hook"]
    at: Int[Tensor, " dead"] | slice
    W_enc: Float[Tensor, "hook d_model dead"]
    b_enc: Float[Tensor, "hook dead"]
    W_dec: Float[Tensor, "hook dead d_model"]


def _auxiliary(
    pre: Float[Tensor, "hook batch d_sae"],
    inputs: Float[Tensor, "hook batch d_model"],
    error: Float[Tensor, "hook batch d_model"],
    rows: Float[Tensor, "hook d_sae d_model"],
    dead: Bool[Tensor, "hook d_sae"],
    weight: Float[Tensor, " hook"],
) -> Auxiliary:
    """Let the dead latents reconstruct the residual, which is minus `error`.

    On a CPU, where hook points come one at a time and looking at a tensor stalls nothing, only the
    dead columns are computed; elsewhere all are, masked, so that shapes are fixed.
    """
    at = dead[0].nonzero()[:, 0] if len(dead) == 1 and dead.device.type == "cpu" else slice(None)
    k_aux = rows.shape[2] // 2
    rows = rows[:, at]
    acts = pre[..., at].masked_fill(~dead[:, None, at], 0.0).relu()
    if acts.shape[2] > k_aux:
        values, indices = strongest(acts, k_aux)
        acts = torch.zeros_like(acts).scatter_(-1, indices, values)
    missed = torch.bmm(acts, rows).to(error.dtype) + error
    gradient = 2 * weight[:, None, None] * missed
    d_pre = torch.bmm(gradient, rows.mT) * (acts > 0)
    return Auxiliary(
        weight * missed.square().sum((1, 2)) * dead.any(1),
        at,
        torch.bmm(inputs.mT, d_pre),
        d_pre.sum(1),
        torch.bmm(acts.mT, gradient),
    )


def gradients(
    x: Float[Tensor, "hook batch d_model"],
    weights: Weights,
    dead: Bool[Tensor, "hook d_sae"],
    settings: StepSettings,
) -> Step:
    """Compute the loss and its gradients for some hook points, without autograd."""
    _, batch, d_model = x.shape
    d_sae = weights.b_enc.shape[1]
    inputs = x - weights.b_dec[:, None]
    pre = torch.baddbmm(weights.b_enc[:, None], inputs, weights.W_enc)
    values, indices = strongest(pre, settings.k)
    acts = Strongest(values.relu(), indices)
    error = settings.kernels.decode(*acts, weights.W_dec).to(x.dtype) - inputs
    total = _totals(error, acts, d_sae, settings)

    gradient = error * (2 / (batch * d_model))
    d_values = settings.kernels.live(gradient, indices, weights.W_dec) * (values > 0)
    W_enc, b_enc, W_dec = settings.kernels.weights(acts, d_values, inputs, gradient)

    # the ranks' losses are averaged, so each divides by the mean over ranks of the variance
    weight = settings.auxk_coef * settings.world_size / total.variance
    weight = torch.where(total.variance > 0, weight, 0.0)
    auxk = _auxiliary(pre, inputs, error, weights.W_dec, dead, weight)
    W_enc[..., auxk.at] += auxk.W_enc
    b_enc[:, auxk.at] += auxk.b_enc
    W_dec[:, auxk.at] += auxk.W_dec
    b_dec = gradient.sum(1) - torch.bmm(weights.W_enc, b_enc[..., None].to(x.dtype))[..., 0]

    local = error.square().sum((1, 2)) / (batch * d_model)
    return Step(
        local + auxk.loss,
        total.squared / (batch * settings.world_size * d_model),
        auxk.loss,
        total.fired,
        Weights(W_enc, b_enc, W_dec, b_dec),
    )


class TopKStep(torch.autograd.Function):
    """`gradients` as a node of autograd, so that Lightning and DDP see an ordinary loss.

    Hook points pass one at a time on a CPU, whose caches hold one, and all at once elsewhere.
    """

    @staticmethod
    def forward(  # noqa: PLR0913 (autograd wants every parameter by itself)
        ctx: Any,  # noqa: ANN401 (torch gives it no type)
        x: Tensor,
        W_enc: Tensor,
        b_enc: Tensor,
        W_dec: Tensor,
        b_dec: Tensor,
        dead: Tensor,
        settings: StepSettings,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return loss, fvu, auxk and fired, each with a row per hook point."""
        weights = Weights(W_enc, b_enc, W_dec, b_dec)
        kept = Weights(*map(torch.empty_like, weights))
        size = 1 if x.device.type == "cpu" else len(x)
        steps = []
        for start in range(0, len(x), size):
            at = slice(start, start + size)
            step = gradients(x[at], Weights(*(w[at] for w in weights)), dead[at], settings)
            for whole, part in zip(kept, step.gradients, strict=True):
                whole[at] = part
            steps.append(step[:4])
        loss, fvu, auxk, fired = map(torch.cat, zip(*steps, strict=True))
        ctx.save_for_backward(*kept)
        ctx.mark_non_differentiable(fvu, auxk, fired)
        return loss, fvu, auxk, fired

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,  # noqa: ANN401
        d_loss: Tensor,
        *_: Tensor,
    ) -> tuple[Tensor | None, ...]:
        """Scale the gradients that `forward` computed."""
        rows = (d_loss.view(-1, *[1] * (g.dim() - 1)) * g for g in ctx.saved_tensors)
        return None, *rows, None, None
