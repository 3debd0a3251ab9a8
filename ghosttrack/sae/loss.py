"""What a bank minimises: loss and gradients of a step in a single pass, written by hand.

For each hook point, with x in units where E||x - mean||^2 = d_model:

    pre   = (x - b_dec) W_enc + b_enc
    x_hat = active(pre) W_dec + b_dec
    loss  = ||x - x_hat||^2 / d_model + auxk_coef * AuxK

AuxK (Gao et al. 2024, appendix A.2): the k_aux = d_model / 2 strongest dead latents reconstruct
the residual x - x_hat, taken as given, without b_dec; their error is divided by the residual's
variance over the batch. Both the decoder and the encoder of dead latents learn from it. A dead
latent whose pre-activation is above 0 nowhere in the batch takes part with what it has, below 0:
ReLU would give it no gradient, and it would never come back.

The error is x_hat - x = acts W_dec - (x - b_dec), so b_dec's gradient is the sum of the error's
and of what the encoder sends back; neither needs a product over tokens.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, nn

from ghosttrack.sae.architectures import (
    LEAST_CUT,
    JumpReLU,
    Ranks,
    Rule,
    TopK,
    make_rule,
    strongest,
)
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.config import KernelChoice, SAEConfig
from ghosttrack.sae.products import (
    GATHERED_BELOW,
    Copies,
    Pass,
    Weights,
    choose,
    compiled_pass,
    dense_pass,
    gathered_pass,
    of_hooks,
    sparse_pass,
)

COUNT_EVERY = 16
"""Steps between two looks at which hook points have dead latents, on a GPU: each stalls it once."""
CUT_MOMENTUM = 0.9
"""Of the running mean of batches' cuts, by which tokens are selected one by one later; a cut is of
thousands of entries, so ten batches are enough and a short run has forgotten where it began."""


class Losses(NamedTuple):
    """One step; everything but `loss` is of the global batch and carries no gradient."""

    loss: Float[Tensor, ""]
    """Summed over hook points, so their gradients never mix; its mean over ranks is the loss."""
    fvu: Float[Tensor, " hook"]
    """Squared error of a token over d_model, which is the variance of the first sample."""
    dead_frac: Float[Tensor, " hook"]
    """Latents silent for `dead_after_tokens` before this step."""


class BankLoss(nn.Module):
    """Reconstruction error + auxk_coef AuxK, and what the architecture adds.

    `silent` counts, per latent, the tokens of all ranks since it last fired. It is equal on every
    rank and part of a checkpoint; so is what a GPU has last seen of it.

    Args:
        reduce: False if each rank trains hook points of its own.

    Attributes:
        together: All hook points pass at once, and their dead latents are counted now and then: a
            GPU's way. None: as the device likes it.
    """

    silent: Tensor

    def __init__(self, n_hooks: int, config: SAEConfig, *, reduce: bool = True) -> None:
        super().__init__()
        self.config = config
        self.ranks = Ranks(reduce=reduce)
        self.rule = make_rule(config, self.ranks)
        cuts = [round(share * config.d_sae) for share in config.prefixes]
        self.sizes = [high - low for low, high in zip([0, *cuts], cuts, strict=False)]
        self.register_buffer("silent", torch.zeros(n_hooks, config.d_sae, dtype=torch.long))
        self.together: bool | None = None
        self._n_dead, self._n_steps = [0] * n_hooks, 0

    def get_extra_state(self) -> Int64[Tensor, "hook 2"]:
        """Give the dead latents that were last counted, and the steps so far, by hook point."""
        return torch.tensor([(n_dead, self._n_steps) for n_dead in self._n_dead])

    def set_extra_state(self, state: Int64[Tensor, "hook 2"]) -> None:
        """Go on with the same counts; a count at hand would be of other tokens."""
        self._n_dead, self._n_steps = state[:, 0].tolist(), int(state[0, 1])

    def forward(self, bank: Bank, x: Float[Tensor, "hook batch d_model"]) -> Losses:
        """Compute the loss of raw activations; counts their tokens as a side effect."""
        dead = self.silent >= self.config.dead_after_tokens
        together = x.device.type != "cpu" if self.together is None else self.together
        of = StepSettings(
            self.rule,
            self.sizes,
            choose(self.config, x.device),
            self.config.auxk_coef,
            self._count(dead, together),
            self.ranks,
            bank.copies,
            together,
        )
        loss, fvu, fired, cut = BankStep.apply(x, bank.scale, *bank.weights, dead, of)
        self.silent.add_(x.shape[1] * self.ranks.size).masked_fill_(fired, 0)
        if bank.log_threshold is not None and not bank.architecture.learns_threshold:
            self._follow(bank.log_threshold, cut)
        return Losses(loss.sum(), fvu, dead.float().mean(1))

    def _count(self, dead: Bool[Tensor, "hook d_sae"], together: bool) -> list[int]:
        """Bound the dead latents of each hook point, for AuxK."""
        if self.config.auxk_coef == 0:
            return [0] * len(dead)
        if not together:
            return dead.sum(1).tolist()
        if self._n_steps % COUNT_EVERY == 0:
            self._n_dead = dead.sum(1).tolist()
        self._n_steps += 1
        return self._n_dead

    @staticmethod
    @torch.no_grad()
    def _follow(log_threshold: Tensor, cut: Float[Tensor, " hook"]) -> None:
        cut = cut[:, None].clamp(min=LEAST_CUT)
        log_threshold.copy_((CUT_MOMENTUM * log_threshold.exp() + (1 - CUT_MOMENTUM) * cut).log())


class StepSettings(NamedTuple):
    """What a step needs besides tensors."""

    rule: Rule
    sizes: list[int]
    """Latents in consecutive groups, for `matryoshka`; one group of all elsewhere."""
    kernels: KernelChoice
    auxk_coef: float
    n_dead: Sequence[int]
    """Dead latents that AuxK looks at, by hook point; at most."""
    ranks: Ranks
    copies: Copies
    together: bool = False
    """All hook points pass at once."""


class Step(NamedTuple):
    """What one step yields per hook point."""

    loss: Float[Tensor, " hook"]
    """Whose mean over ranks is the loss of the global batch."""
    fvu: Float[Tensor, " hook"]
    """Of the global batch: squared error over d_model, the variance of the first sample."""
    fired: Bool[Tensor, "hook d_sae"]
    """Latents that are active anywhere in the global batch."""
    cut: Float[Tensor, " hook"]
    """Least active pre-activation of the global batch; 0 where no batch is selected from."""
    gradients: Weights


def _totals(one: Pass, ranks: Ranks) -> tuple[Tensor, Tensor, Tensor]:
    """Return a pass' `squared`, `total` and `fired` over the tokens of all ranks."""
    squared, total, fired = one.squared, one.total, one.fired
    if ranks.size == 1:
        return squared, total, fired
    sums = ranks.total(torch.cat([squared[:, None], total, fired.to(total.dtype)], dim=1))
    squared, total, n_fired = sums.split([1, total.shape[1], fired.shape[1]], dim=1)
    return squared[:, 0], total, n_fired > 0


class Auxiliary(NamedTuple):
    """AuxK's share of the loss, and its gradients at the latents `at`; rows are latents."""

    loss: Float[Tensor, " hook"]
    at: Int[Tensor, "hook dead"]
    W_enc: Float[Tensor, "hook dead d_model"]
    b_enc: Float[Tensor, "hook dead"]
    W_dec: Float[Tensor, "hook dead d_model"]


def _auxiliary(
    inputs: Float[Tensor, "hook batch d_model"],
    error: Float[Tensor, "hook batch d_model"],
    weights: Weights,
    dead: Bool[Tensor, "hook d_sae"],
    of: StepSettings,
    weight: Float[Tensor, " hook"],
) -> Auxiliary:
    """Let the dead latents reconstruct the residual, which is minus `error`.

    Only `n_dead` columns are computed; a hook point with fewer dead latents has the rest masked.
    """
    dtype, n_dead, ranks = error.dtype, max(of.n_dead), of.ranks
    at = dead.to(dtype).topk(n_dead, dim=1).indices
    hooks = torch.arange(len(at), device=at.device)[:, None]
    rows, mask = weights.W_dec[hooks, at], dead.gather(1, at)
    columns, bias = weights.W_enc.mT[hooks, at].mT, weights.b_enc.gather(1, at)
    pre = torch.baddbmm(bias[:, None], inputs, columns)
    has_positive = ranks.total((pre > 0).any(1).to(dtype)) > 0
    acts = torch.where(has_positive[:, None], pre.relu(), pre).masked_fill(~mask[:, None], 0.0)
    k_aux = inputs.shape[2] // 2
    if n_dead > k_aux:
        _, chosen = strongest(acts.masked_fill(~mask[:, None], -torch.inf), k_aux)
        acts = torch.zeros_like(acts).scatter_(-1, chosen, acts.gather(-1, chosen))
    missed = torch.bmm(acts, rows).to(dtype) + error
    gradient = 2 * weight[:, None, None] * missed
    d_pre = torch.bmm(gradient, rows.mT) * (acts != 0)
    return Auxiliary(
        weight * missed.square().sum((1, 2)) * mask.any(1),
        at,
        torch.bmm(d_pre.mT, inputs).to(dtype),
        d_pre.sum(1, dtype=dtype),
        torch.bmm(acts.mT, gradient).to(dtype),
    )


def alike(n_dead: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Put hook points together that have about as many dead latents; those without are left out.

    >>> list(alike([3, 0, 500, 4]))
    [(4, [0, 3]), (512, [2])]
    >>> list(alike([500]))
    [(500, [0])]
    """
    sizes = list(n_dead) if len(n_dead) == 1 else [1 << (n - 1).bit_length() for n in n_dead]
    for size in sorted({size for size, n in zip(sizes, n_dead, strict=True) if n}):
        yield size, [hook for hook, n in enumerate(n_dead) if n and sizes[hook] == size]


def _add_auxiliary(
    inputs: Float[Tensor, "hook batch d_model"],
    one: Pass,
    weights: Weights,
    dead: Bool[Tensor, "hook d_sae"],
    of: StepSettings,
    weight: Float[Tensor, " hook"],
) -> Float[Tensor, " hook"]:
    """Add AuxK's gradients to those of a pass; return its share of the loss."""
    loss, unit = torch.zeros_like(weight), inputs[0].numel() / 2
    W_enc, b_enc, W_dec, *_ = one.gradients
    for size, hooks in alike(of.n_dead):
        # every hook point is a slice: nothing is copied
        is_all = len(hooks) == len(inputs)
        at = slice(None) if is_all else _numbers(tuple(hooks), inputs.device)
        auxk = _auxiliary(
            inputs[at],
            one.gradient[at] * unit,
            of_hooks(weights, at),
            dead[at],
            of._replace(n_dead=[min(size, dead.shape[1])]),
            weight[at],
        )
        rows = torch.arange(len(inputs), device=inputs.device)[at, None]
        W_enc.mT[rows, auxk.at] += auxk.W_enc
        b_enc[rows, auxk.at] += auxk.b_enc
        W_dec[rows, auxk.at] += auxk.W_dec
        loss[at] = auxk.loss
    return loss


@functools.lru_cache(maxsize=32)
def _numbers(hooks: tuple[int, ...], device: torch.device) -> Int64[Tensor, " hook"]:
    """Put numbers on a device, which it is waited for: once for all steps between two counts."""
    return torch.tensor(hooks, device=device)


def _pass(inputs: Float[Tensor, "hook batch d_model"], weights: Weights, of: StepSettings) -> Pass:
    with_triton, rule = of.kernels is KernelChoice.triton, of.rule
    if with_triton and isinstance(rule, TopK) and rule.k < GATHERED_BELOW * sum(of.sizes):
        return gathered_pass(inputs, weights, rule)
    if with_triton or of.kernels is KernelChoice.dense:
        return dense_pass(inputs, weights, rule, of.sizes, with_triton)
    assert not isinstance(rule, JumpReLU), "no sparse path: refused by SAEConfig"
    path = compiled_pass if of.kernels is KernelChoice.compiled else sparse_pass
    return path(inputs, weights, rule)


@torch.no_grad()
def gradients(
    inputs: Float[Tensor, "hook batch d_model"],
    weights: Weights,
    dead: Bool[Tensor, "hook d_sae"],
    of: StepSettings,
) -> Step:
    """Compute the loss and its gradients for some hook points, without autograd.

    `inputs` is x - b_dec.
    """
    _, batch, d_model = inputs.shape
    n_tokens, unit = batch * of.ranks.size, batch * d_model / 2
    one = _pass(inputs, weights, of)
    loss, (W_enc, b_enc, W_dec, b_dec, log_threshold) = one.loss, one.gradients
    squared, total, fired = _totals(one, of.ranks)
    if any(of.n_dead):
        variance = squared - (total * unit).square().sum(1) / n_tokens
        # the ranks' losses are averaged, so each divides by the mean over ranks of the variance
        weight = torch.where(variance > 0, of.auxk_coef * of.ranks.size / variance, 0.0)
        loss = loss + _add_auxiliary(inputs, one, weights, dead, of, weight)
    b_dec = b_dec - torch.bmm(weights.W_enc, b_enc[..., None])[..., 0]
    return Step(
        loss,
        squared / (n_tokens * d_model),
        fired,
        one.cut if one.cut is not None else torch.zeros_like(loss),
        Weights(W_enc, b_enc, W_dec, b_dec, log_threshold),
    )


class BankStep(torch.autograd.Function):
    """`gradients` as a node of autograd, so that Lightning and DDP see an ordinary loss.

    Hook points pass one at a time on a CPU, whose caches hold one, and wherever a path takes only
    one; else all at once. Weights are cast at most once.
    """

    @staticmethod
    def forward(  # noqa: PLR0913 (autograd wants every parameter by itself)
        ctx: Any,  # noqa: ANN401 (torch gives it no type)
        x: Tensor,
        scale: Tensor,
        W_enc: Tensor,
        b_enc: Tensor,
        W_dec: Tensor,
        b_dec: Tensor,
        log_threshold: Tensor | None,
        dead: Tensor,
        of: StepSettings,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return loss, fvu, fired and cut, each with a row per hook point."""
        with_triton = of.kernels is KernelChoice.triton
        is_dense = with_triton or of.kernels is KernelChoice.dense
        weights = Weights(W_enc, b_enc, W_dec, b_dec, log_threshold)
        if is_dense:
            weights = weights._replace(
                W_enc=of.copies.of("W_enc", W_enc), W_dec=of.copies.of("W_dec", W_dec)
            )
        size = len(x) if with_triton or (of.together and is_dense) else 1
        steps = []
        for start in range(0, len(x), size):
            at = slice(start, start + size)
            some = of_hooks(weights, at)
            # x is read in its own number format
            inputs = torch.addcmul(-some.b_dec[:, None], x[at], scale[at, None, None])
            steps.append(gradients(inputs, some, dead[at], of._replace(n_dead=of.n_dead[at])))
        loss, fvu, fired, cut = (
            torch.cat(parts) for parts in zip(*(s[:4] for s in steps), strict=True)
        )
        ctx.save_for_backward(*_together([step.gradients for step in steps]))
        ctx.mark_non_differentiable(fvu, fired, cut)
        return loss, fvu, fired, cut

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,  # noqa: ANN401
        d_loss: Tensor,
        *_: Tensor,
    ) -> tuple[Tensor | None, ...]:
        """Scale the gradients that `forward` computed; on a CPU one look saves a factor of 1.

        On a GPU a look would stall it and the factor costs 2 GB of traffic: it has to be 1, and the
        device itself complains if it is not.
        """
        is_one = (d_loss == 1).all()
        if d_loss.device.type != "cpu":
            torch._assert_async(is_one, "a loss goes backward as it is")
        elif not bool(is_one):
            rows = (
                None if g is None else d_loss.view(-1, *[1] * (g.dim() - 1)) * g
                for g in ctx.saved_tensors
            )
            return None, None, *rows, None, None
        return None, None, *ctx.saved_tensors, None, None


def _together(parts: list[Weights]) -> list[Tensor | None]:
    """Join hook points; one alone is not copied."""
    if len(parts) == 1:
        return list(parts[0])
    return [None if some[0] is None else torch.cat(some) for some in zip(*parts, strict=True)]
