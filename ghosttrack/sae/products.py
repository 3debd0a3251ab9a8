"""The products of a step, by GEMMs over all latents or by operations on the active ones alone.

Every path yields the same numbers to rounding. `choose` is the one place that decides.
"""

import warnings
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from ghosttrack import jit
from ghosttrack.errors import ConfigError
from ghosttrack.sae import compiled, fused
from ghosttrack.sae.architectures import Active, BatchTopK, JumpReLU, Rule, TopK
from ghosttrack.sae.compiled import SparseRows, is_compiled
from ghosttrack.sae.config import KernelChoice, SAEConfig

SPARSE_BELOW = 0.1
"""k / d_sae up to which a sparse step wins on a CPU, measured with compiled kernels
(tests/benchmarks/bank.py). A GPU multiplies over all latents."""
GATHERED_BELOW = 0.02
"""k / d_sae up to which Triton's kernel gathers decoder rows instead of two GEMMs: from the bytes
and FLOPs of an H200 at d_model 1024, not measured."""


class Weights(NamedTuple):
    """The parameters of some hook points, or their gradients."""

    W_enc: Float[Tensor, "hook d_model d_sae"]
    b_enc: Float[Tensor, "hook d_sae"]
    W_dec: Float[Tensor, "hook d_sae d_model"]
    b_dec: Float[Tensor, "hook d_model"]
    log_threshold: Float[Tensor, "hook d_sae"] | None


def of_hooks(weights: Weights, hooks: slice | Tensor) -> Weights:
    """Take some hook points."""
    W_enc, b_enc, W_dec, b_dec, log_threshold = weights
    threshold = None if log_threshold is None else log_threshold[hooks]
    return Weights(W_enc[hooks], b_enc[hooks], W_dec[hooks], b_dec[hooks], threshold)


class _Copy(NamedTuple):
    values: Tensor
    at: tuple[int, int]
    """Address and version of the weight that it was written beside."""


class Copies:
    """Copies of weights in autocast's number format, that the optimiser writes.

    Each is good until its weight changes. No other is kept: torch's fused optimisers change a
    weight and leave its version, so without such a copy each use is a cast.
    """

    def __init__(self) -> None:
        self._asked: dict[str, torch.dtype] = {}
        self._kept: dict[str, _Copy] = {}

    @torch.no_grad()
    def of(self, name: str, weight: Tensor) -> Tensor:
        """Give a weight as autocast would; itself where there is none."""
        device = "cuda" if weight.is_meta else weight.device.type  # the former stands for a GPU
        if not torch.is_autocast_enabled(device):
            return weight
        dtype, kept = torch.get_autocast_dtype(device), self._kept.get(name)
        self._asked[name] = dtype
        if kept is None or kept.values.dtype != dtype or kept.at != _state(weight):
            return weight.to(dtype)
        return kept.values

    def target(self, name: str, weight: Tensor) -> Tensor | None:
        """Give what is to be written beside a weight; None where no product asked for its copy."""
        dtype, kept = self._asked.get(name), self._kept.get(name)
        if dtype is None:
            return None
        if kept is None or (kept.values.dtype, kept.values.device) != (dtype, weight.device):
            return torch.empty_like(weight, dtype=dtype, requires_grad=False)
        return kept.values

    def written(self, name: str, weight: Tensor, values: Tensor | None) -> None:
        """Say that a weight has changed, and that `values` are its copy."""
        torch.autograd.graph.increment_version(weight)
        if values is not None:
            self._kept[name] = _Copy(values, _state(weight))


def _state(weight: Tensor) -> tuple[int, int]:
    return weight.data_ptr(), weight._version


class Pass(NamedTuple):
    """One pass forward and back, without AuxK."""

    loss: Float[Tensor, " hook"]
    squared: Float[Tensor, " hook"]
    """Sum of the squares of x_hat - x."""
    gradient: Float[Tensor, "hook batch d_model"]
    """2 (x_hat - x) / (batch d_model)."""
    total: Float[Tensor, "hook d_model"]
    """Its sum over tokens."""
    fired: Bool[Tensor, "hook d_sae"]
    """Latents that are active on any token."""
    cut: Float[Tensor, " hook"] | None
    gradients: Weights
    """b_dec's only through the reconstruction, not through the encoder's input."""


def dense_pass(
    inputs: Float[Tensor, "hook batch d_model"],
    weights: Weights,
    rule: Rule,
    sizes: list[int],
    with_triton: bool = False,
) -> Pass:
    """Multiply over all latents, in the number format of the weights.

    Args:
        inputs: x - b_dec.
        weights: Of these hook points.
        rule: Which latents are active.
        with_triton: Select them by a row kernel of a GPU.
        sizes: Latents in consecutive groups. The first group, the first two and so on reconstruct,
            each alone; the loss is the mean over them.
    """
    scale, dtype = 2 / inputs[0].numel(), weights.W_enc.dtype
    x = inputs.to(dtype)
    pre = torch.baddbmm(weights.b_enc[:, None], x, weights.W_enc)
    if with_triton and not isinstance(rule, JumpReLU):
        active = rule.fused(pre)
    else:
        active = rule.dense(pre, weights.log_threshold)
    acts, rows = active.acts.split(sizes, -1), weights.W_dec.split(sizes, 1)
    parts = [torch.bmm(a, r) for a, r in zip(acts, rows, strict=True)]
    parts[1:] = [part.to(inputs.dtype) for part in parts[1:]]  # that take sums
    for before, part in pairwise(parts):
        part.add_(before)
    residuals = [_residual(part, inputs, scale) for part in parts]
    errors, squared, totals = zip(*residuals, strict=True)
    loss = torch.stack(squared).mean(0) * (scale / 2)

    reaching = [error.to(dtype) for error in _reaching(list(errors))]
    d_acts = _joined([torch.bmm(e, r.mT) for e, r in zip(reaching, rows, strict=True)], -1)
    W_dec = _joined([torch.bmm(a.mT, e) for a, e in zip(acts, reaching, strict=True)], 1)
    log_threshold = None
    if isinstance(rule, JumpReLU):
        assert weights.log_threshold is not None
        extra, log_threshold = rule.threshold_terms(pre, active, d_acts, weights.log_threshold)
        loss = loss + extra
    d_pre, b_enc, fired = _gate(d_acts, active, inputs.dtype)
    W_enc = torch.bmm(d_pre.mT, x).to(inputs.dtype).mT
    b_dec = totals[-1] if len(totals) == 1 else torch.stack(totals).mean(0)
    gradients = Weights(W_enc, b_enc, W_dec.to(inputs.dtype), b_dec, log_threshold)
    return Pass(loss, squared[-1], errors[-1], totals[-1], fired, active.cut, gradients)


def _reaching(errors: list[Tensor]) -> list[Tensor]:
    """Give each group of latents the mean gradient of the reconstructions that it is part of."""
    if len(errors) == 1:
        return errors
    return [torch.stack(errors[i:]).sum(0) / len(errors) for i in range(len(errors))]


def _residual(
    decoded: Float[Tensor, "hook batch d_model"],
    inputs: Float[Tensor, "hook batch d_model"],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return scale times the error, the error's sum of squares, and the first's over tokens."""
    if is_compiled(decoded) and len(decoded) == 1:
        squared, total = compiled.residual(decoded[0], inputs[0], scale)
        return decoded, squared[None], total[None]
    gradient = torch.sub(decoded, inputs).mul_(scale)
    squared = torch.linalg.vector_norm(gradient, dim=(1, 2)).div(scale).square()
    return gradient, squared, gradient.sum(1)


def _gate(
    d_acts: Float[Tensor, "hook batch latent"], active: Active, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient of the active latents, its sum over tokens, and which were active."""
    acts = active.acts
    if is_compiled(d_acts) and len(d_acts) == 1:
        total, fired = compiled.gate(d_acts[0], acts[0])
        return d_acts, total[None], fired[None]
    d_pre = torch.ops.aten.threshold_backward(d_acts, acts, 0)
    fired = acts.amax(1) > 0 if active.fired is None else active.fired
    return d_pre, d_pre.sum(1, dtype=dtype), fired


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def gathered_pass(
    inputs: Float[Tensor, "hook batch d_model"], weights: Weights, rule: TopK
) -> Pass:
    """Encode and sum up gradients over all latents, reconstruct from the active ones' rows."""
    inputs = inputs.contiguous()
    x = inputs.to(weights.W_enc.dtype)
    acts = torch.baddbmm(weights.b_enc[:, None], x, weights.W_enc)
    chosen = fused.select(acts, rule.k)
    gradient, squared, d_values = fused.decode(chosen, weights.W_dec, inputs, 2 / inputs[0].numel())
    W_dec = torch.bmm(acts.mT, gradient.to(x.dtype)).to(inputs.dtype)
    fused.scatter(acts, chosen, d_values)
    W_enc = torch.bmm(acts.mT, x).to(inputs.dtype).mT
    total = gradient.sum(1)
    gradients = Weights(W_enc, acts.sum(1, dtype=inputs.dtype), W_dec, total, None)
    loss = squared / inputs[0].numel()
    return Pass(loss, squared, gradient, total, chosen.fired, None, gradients)


def sparse_pass(
    inputs: Float[Tensor, "1 batch d_model"], weights: Weights, rule: TopK | BatchTopK
) -> Pass:
    """Multiply over the active latents of one hook point, by operations of torch."""
    x, d_sae, device = inputs[0], weights.b_enc.shape[1], inputs.device
    pre = torch.addmm(weights.b_enc[0], x, weights.W_enc[0])
    (starts, values, latents), cut = rule.sparse(pre)
    W_dec = weights.W_dec[0]
    decoded = F.embedding_bag(
        latents, W_dec, starts[:-1], mode="sum", per_sample_weights=values.to(W_dec.dtype)
    )
    gradient, squared, total = _residual(decoded[None], inputs, 2 / x.numel())
    blank = torch.zeros_like(values, dtype=x.dtype)
    with warnings.catch_warnings():
        # torch says once that CSR tensors are in beta; this use is held by a test
        warnings.simplefilter("ignore", UserWarning)
        at = torch.sparse_csr_tensor(starts, latents, blank, (len(x), d_sae))
        product = torch.sparse.sampled_addmm(
            at, gradient[0], W_dec.to(x.dtype).T, beta=0.0
        )  # takes no bf16
    d_values = product.values() * (values > 0)

    latents, order = latents.sort()
    tokens = torch.searchsorted(starts, order, right=True) - 1
    bags = torch.searchsorted(latents, torch.arange(d_sae, device=device))

    def per_latent(rows: Tensor, of_values: Tensor) -> Tensor:
        return F.embedding_bag(
            tokens, rows, bags, mode="sum", per_sample_weights=of_values[order].to(rows.dtype)
        )

    columns = torch.stack([d_values, (values > 0).to(values.dtype)], dim=1)
    sums = columns.new_zeros(d_sae, 2).index_add_(0, latents, columns[order])
    gradients = Weights(
        per_latent(x, d_values).mT[None],
        sums[:, 0][None].to(x.dtype),
        per_latent(gradient[0], values)[None],
        total,
        None,
    )
    loss = squared / x.numel()
    return Pass(loss, squared, gradient, total, sums[None, :, 1] > 0, cut, gradients)


def compiled_pass(
    inputs: Float[Tensor, "1 batch d_model"], weights: Weights, rule: TopK | BatchTopK
) -> Pass:
    """Multiply over the active latents of one hook point, by compiled row kernels."""
    x, d_sae = inputs[0], weights.b_enc.shape[1]
    rows, cut = _select(x, weights, rule)
    scale = 2 / x.numel()
    gradient, d_values = compiled.decode(rows, weights.W_dec[0].detach(), x, scale)
    by_latent = compiled.transpose(rows, d_values, d_sae)
    n_active = by_latent.starts.diff()
    latents = torch.repeat_interleave(n_active)
    total = gradient.sum(0)[None]
    gradients = Weights(
        compiled.accumulate(by_latent, by_latent.d_values, x).mT[None],
        x.new_zeros(1, d_sae).index_add_(1, latents, by_latent.d_values[None, : len(latents)]),
        compiled.accumulate(by_latent, by_latent.values, gradient)[None],
        total,
        None,
    )
    squared = torch.linalg.vector_norm(gradient).div(scale).square()[None]
    loss = squared / x.numel()
    return Pass(loss, squared, gradient[None], total, n_active[None] > 0, cut, gradients)


def _select(
    x: Float[Tensor, "batch d_model"], weights: Weights, rule: TopK | BatchTopK
) -> tuple[SparseRows, Float[Tensor, " 1"] | None]:
    """Encode; tokens that are selected for one by one never have all pre-activations in memory."""
    W_enc, b_enc = weights.W_enc[0], weights.b_enc[0]
    if isinstance(rule, BatchTopK):
        return rule.sparse(torch.addmm(b_enc, x, W_enc))
    values, indices = compiled.encode_select(x, W_enc, b_enc, rule.k)
    return rule.entries(values, indices), None


def choose(config: SAEConfig, device: torch.device) -> KernelChoice:
    """Take the path that is quickest for these shapes on this device, unless one is forced.

    Raises:
        ConfigError: The one that is forced runs elsewhere.
    """
    on_cpu = device.type == "cpu"
    if config.kernels is KernelChoice.compiled and not on_cpu:
        raise ConfigError(f"sae.kernels=compiled is for a CPU, not {device.type}; set auto")
    if config.kernels is KernelChoice.triton and not fused.runs_on(device):
        raise ConfigError(
            "sae.kernels=triton needs a GPU, triton, a C compiler, Python's headers; set auto"
        )
    if config.kernels is not KernelChoice.auto:
        return config.kernels
    if device.type == "cuda" and fused.runs_on(device):
        return KernelChoice.triton
    few = config.k < SPARSE_BELOW * config.d_sae
    if not (few and on_cpu and config.architecture.is_sparse):
        return KernelChoice.dense
    return KernelChoice.compiled if jit.AVAILABLE else KernelChoice.sparse
