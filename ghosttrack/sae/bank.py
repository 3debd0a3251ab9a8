"""S independent autoencoders, one per hook point, as one module of batched weights."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ghosttrack.errors import DataError
from ghosttrack.files import write_json
from ghosttrack.sae.architectures import LEAST_CUT, batch_cut, strongest
from ghosttrack.sae.bank_files import BANK, FORMAT_VERSION, HookSAE, read_bank, write_sae
from ghosttrack.sae.config import Architecture
from ghosttrack.sae.metrics import METRICS, ROUNDING, HookMetrics, write_metrics
from ghosttrack.sae.products import Copies, Weights

WEISZFELD_STEPS = 10


class Acts(NamedTuple):
    """Active latents per token, in no particular order; an empty slot has value 0."""

    values: Float[Tensor, "hook batch slot"]
    indices: Int[Tensor, "hook batch slot"]


class Bank(nn.Module):
    """Autoencoders of the same shape at several hook points; all 0 until `initialise` or `load`.

    pre = (s x - b_dec) W_enc + b_enc        acts = active(pre) / s
    x_hat = acts W_dec + b_dec / s

    `active` keeps the k largest pre-activations of each token that are above 0 (`topk`), or those
    above the latent's threshold (every other architecture).

    The parameters live in units where E||x - mean||^2 = d_model: hook point i multiplies its input
    by `scale[i]` = s. What goes in and comes out (`pre_acts`, `encode`, `decode`) is in the raw
    units of the residual stream, and rows of W_dec have norm 1, so an activation of 3 adds a vector
    of length 3 to the reconstruction. (Rows that another library's `topk` left longer or shorter
    stay so, for it is activations without norms that it compares.) `observe` alone speaks in the
    standardised units.

    Args:
        hooks: Names of the hook points, `layer_<l>`; the first axis of every tensor.
        d_sae: Latents per hook point.
        k: Latents that are active on one token: at most so many (`topk`), or as many on average.
        architecture: Which latents are active.

    Attributes:
        copies: Of W_enc and W_dec, as the products of a step take them.
        log_threshold: [hook d_sae], None for `topk`. Learned by gradient for `jumprelu`, a running
            mean of the batches' cuts for `batchtopk` and `matryoshka`.
    """

    scale: Tensor
    log_threshold: Tensor | None

    def __init__(
        self,
        hooks: Sequence[str],
        d_model: int,
        d_sae: int,
        k: int,
        architecture: Architecture = Architecture.topk,
    ) -> None:
        super().__init__()
        self.hooks, self.d_model, self.d_sae, self.k = list(hooks), d_model, d_sae, k
        self.architecture, self.copies = architecture, Copies()
        # a latent's numbers lie together in memory in both: a sparse step reads them so
        self.W_enc = nn.Parameter(torch.zeros(len(hooks), d_sae, d_model).mT)
        self.b_enc = nn.Parameter(torch.zeros(len(hooks), d_sae))
        self.W_dec = nn.Parameter(torch.zeros(len(hooks), d_sae, d_model))
        self.b_dec = nn.Parameter(torch.zeros(len(hooks), d_model))
        self.register_buffer("scale", torch.ones(len(hooks)))
        threshold = torch.zeros(len(hooks), d_sae)
        if architecture.learns_threshold:
            self.log_threshold = nn.Parameter(threshold)
        else:
            kept = threshold if architecture.has_threshold else None
            self.register_buffer("log_threshold", kept)

    @property
    def weights(self) -> Weights:
        """What a step has gradients for; `scale` is none of it."""
        return Weights(self.W_enc, self.b_enc, self.W_dec, self.b_dec, self.log_threshold)

    @property
    def threshold(self) -> Float[Tensor, "hook d_sae"] | None:
        """Standardised pre-activation above which a latent is active; None for `topk`."""
        return None if self.log_threshold is None else self.log_threshold.exp()

    @property
    def directions(self) -> Float[Tensor, "hook d_sae d_model"]:
        """Decoder rows, of unit norm."""
        return F.normalize(self.W_dec.detach(), dim=-1)

    def standardise(
        self, x: Float[Tensor, "hook batch d_model"]
    ) -> Float[Tensor, "hook batch d_model"]:
        """Bring raw activations, of any float type, to the units of the parameters."""
        return x.to(self.scale.dtype) * self.scale[:, None, None]

    def _pre(self, x: Float[Tensor, "hook batch d_model"]) -> Float[Tensor, "hook batch d_sae"]:
        inputs = self.standardise(x) - self.b_dec[:, None]
        return torch.baddbmm(self.b_enc[:, None], inputs, self.W_enc)

    def pre_acts(self, x: Float[Tensor, "hook batch d_model"]) -> Float[Tensor, "hook batch d_sae"]:
        """Project on every latent's encoder direction; may be negative."""
        return self._pre(x) / self.scale[:, None, None]

    @torch.no_grad()
    def encoders(self) -> tuple[np.ndarray, np.ndarray]:
        """Give W [hook d_model d_sae] and b [hook d_sae] of `pre_acts`: x W + b."""
        shift = self.b_enc - torch.einsum("h m, h m s -> h s", self.b_dec, self.W_enc)
        biases = shift / self.scale[:, None]
        return self.W_enc.float().cpu().numpy(), biases.float().cpu().numpy()

    def encode(self, x: Float[Tensor, "hook batch d_model"]) -> Acts:
        """Keep the active latents; with thresholds, as many slots as the busiest token needs."""
        pre, k, threshold = self._pre(x), self.k, self.threshold
        if threshold is not None:
            pre = pre.masked_fill(pre <= threshold[:, None], 0.0)
            k = max(1, int((pre > 0).sum(-1).max()))
        values, indices = strongest(pre, k)
        return Acts(values.relu() / self.scale[:, None, None], indices)

    def decode(self, acts: Acts) -> Float[Tensor, "hook batch d_model"]:
        """Reconstruct; with all values 0, the bias alone."""
        return rows_sum(*acts, self.W_dec) + (self.b_dec / self.scale[:, None])[:, None]

    def forward(
        self, x: Float[Tensor, "hook batch d_model"]
    ) -> Float[Tensor, "hook batch d_model"]:
        """Encode and decode."""
        return self.decode(self.encode(x))

    @torch.no_grad()
    def observe(self, x: Float[Tensor, "hook batch d_model"], top_k: int) -> Acts:
        """Read the `top_k` strongest positive pre-activations, whatever the bank's own k.

        Values are standardised: comparable between hook points of different norms.
        """
        values, indices = strongest(self._pre(x), min(top_k, self.d_sae))
        return Acts(values.relu(), indices)

    @torch.no_grad()
    def save(
        self,
        folder: Path,
        metrics: Sequence[HookMetrics] | None,
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        """Write one SAELens folder per hook point, `bank.json`, and `metrics.json` where measured.

        Args:
            folder: Made where it is missing.
            metrics: One per hook point, in the order of `hooks`; None where nobody measured it.
            metadata: Goes into every `cfg.json` under `metadata`, for example `model_name`.
        """
        rows = {row.hook: row.known() for row in metrics or ()}
        assert metrics is None or list(rows) == self.hooks, "metrics are of other hook points"
        folder.mkdir(parents=True, exist_ok=True)
        for i, hook in enumerate(self.hooks):
            facts = {**rows.get(hook, {}), **(metadata or {})}
            write_sae(folder / hook, self._sae(i), facts)
        sizes = {"d_model": self.d_model, "d_sae": self.d_sae, "k": self.k}
        bank = {"format_version": FORMAT_VERSION, "architecture": self.architecture.name, **sizes}
        write_json(folder / BANK, {**bank, "hooks": self.hooks, "scale": self.scale.tolist()})
        if metrics is not None:
            write_metrics(folder / METRICS, metrics)

    def _sae(self, i: int) -> HookSAE:
        """Bring one SAE to raw units: from the weights the scale cancels between in and out."""
        s, threshold = self.scale[i], self.threshold
        return HookSAE(
            self.hooks[i],
            self.architecture,
            self.k,
            *(self.W_enc[i], self.b_enc[i] / s, self.W_dec[i], self.b_dec[i] / s),
            threshold=None if threshold is None else threshold[i] / s,
        )

    @classmethod
    def load(cls, path: Path | str) -> "Bank":
        """Read a saved bank, frozen; of others' SAEs `Bank.of(sae.formats.read_saes(path))` is one.

        Raises:
            DataError: A file is missing or malformed, or they do not go together.
        """
        return cls.of(read_bank(Path(path)))

    @classmethod
    @torch.no_grad()
    def of(cls, saes: Sequence[HookSAE]) -> "Bank":
        """Put SAEs of the same shape together, frozen."""
        _, d_model, d_sae, k = saes[0].shape
        bank = cls([sae.hook for sae in saes], d_model, d_sae, k, saes[0].architecture)
        for i, sae in enumerate(saes):
            bank.scale[i] = sae.scale
            bank.W_enc[i], bank.W_dec[i] = sae.W_enc, sae.W_dec
            bank.b_enc[i], bank.b_dec[i] = sae.b_enc * sae.scale, sae.b_dec * sae.scale
            if bank.log_threshold is not None:
                assert sae.threshold is not None
                bank.log_threshold[i] = (sae.threshold * sae.scale).log()
        return bank.requires_grad_(False).eval()


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


def geometric_median(
    points: Float[Tensor, "hook n d_model"],
) -> Float[Tensor, "hook d_model"]:
    """Find the point of least total distance, which outliers hardly move.

    Source: Weiszfeld 1937; each step is a mean weighted by inverse distance. From the median of
    each coordinate ten steps settle to far below the spread of the points.
    """
    centre = points.median(1).values
    for _ in range(WEISZFELD_STEPS):
        distance = torch.cdist(centre[:, None], points, compute_mode="donot_use_mm_for_euclid_dist")
        weight = 1 / distance.clamp(min=1e-6)
        centre = (torch.bmm(weight, points) / weight.sum(-1, keepdim=True))[:, 0]
    return centre


@torch.no_grad()
def initialise(bank: Bank, sample: Float[Tensor, "hook n d_model"], seed: int = 0) -> None:
    """Set a fresh bank's parameters from raw activations.

    Rows of W_dec are random directions that depend on the seed and the hook point's name alone. The
    encoder becomes W_dec^T times the gain that minimises the first FVU. TopK does not see the
    gain, so the optimum is that of a regression of x - b_dec on the rows that gain 1 sums up. With
    gain 1 the overlapping rows would overshoot (facts.md 6: 0.25 is about right, 1 far off).
    Thresholds start where k latents are active on average.

    Raises:
        DataError: The activations of a hook point are constant or not finite.
    """
    x = sample.to(bank.scale)
    spread = (x - x.mean(1, keepdim=True)).square().sum(-1).mean(1)
    least = ROUNDING * x.square().sum(-1).mean(1)
    for hook, value, low in zip(bank.hooks, spread.tolist(), least.tolist(), strict=True):
        if not low < value < math.inf:
            raise DataError(f"the activations of {hook} have variance {value}: nothing to learn")
    bank.scale.copy_((bank.d_model / spread).sqrt())
    x = bank.standardise(x)
    bank.b_dec.copy_(geometric_median(x))
    inputs = x - bank.b_dec[:, None]
    for i, hook in enumerate(bank.hooks):
        bank.W_dec[i] = _directions(bank.d_sae, bank.d_model, f"{seed}/{hook}")
        pre = inputs[i : i + 1] @ bank.W_dec[i].T
        values, indices = strongest(pre, bank.k)
        summed = rows_sum(values.relu(), indices, bank.W_dec[i : i + 1])
        gain = (summed * inputs[i : i + 1]).sum() / summed.square().sum()
        bank.W_enc[i] = gain * bank.W_dec[i].T
        if bank.log_threshold is not None:
            cut = batch_cut(gain * pre, bank.k * pre.shape[1], lambda tensor: tensor)
            bank.log_threshold[i] = cut.clamp(min=LEAST_CUT).log()


def _directions(n: int, d_model: int, name: str) -> Float[Tensor, "n d_model"]:
    """Draw unit vectors, the same ones wherever they are drawn."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
    drawn = torch.randn(n, d_model, generator=torch.Generator().manual_seed(seed))
    return F.normalize(drawn, dim=-1)
