"""S independent autoencoders, one per hook point, as one module of batched weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ghosttrack.files import write_json
from ghosttrack.sae.config import Architecture
from ghosttrack.sae.formats.read import BANK, FORMAT_VERSION, read_saes
from ghosttrack.sae.formats.saelens import write_saelens
from ghosttrack.sae.formats.weights import HookSAE
from ghosttrack.sae.metrics import METRICS, HookMetrics, write_metrics
from ghosttrack.sae.products import Weights
from ghosttrack.sae.select import rows_sum, strongest


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
        d_model: Width of the residual stream.
        d_sae: Latents per hook point.
        k: Latents that are active on one token: at most so many (`topk`), or as many on average.
        architecture: Which latents are active.

    Attributes:
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
        self.architecture = architecture
        # a latent's numbers lie together in memory in both: a sparse step reads them so
        self.W_enc = nn.Parameter(torch.zeros(len(hooks), d_sae, d_model).mT)
        self.b_enc = nn.Parameter(torch.zeros(len(hooks), d_sae))
        self.W_dec = nn.Parameter(torch.zeros(len(hooks), d_sae, d_model))
        self.b_dec = nn.Parameter(torch.zeros(len(hooks), d_model))
        self.register_buffer("scale", torch.ones(len(hooks)))
        blank = None if architecture is Architecture.topk else torch.zeros(len(hooks), d_sae)
        if architecture is Architecture.jumprelu:
            self.log_threshold = nn.Parameter(torch.zeros(len(hooks), d_sae))
        else:
            self.register_buffer("log_threshold", blank)

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
        return nn.functional.normalize(self.W_dec.detach(), dim=-1)

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
            write_saelens(folder / hook, self._sae(i), facts)
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
        """Read a saved bank, or SAEs that another library wrote (`read_saes`), frozen.

        Of the latter only raw units are known: their `scale` is 1.

        Raises:
            DataError: A file is missing or malformed, or the SAEs do not go together.
        """
        return cls.of(read_saes(Path(path)))

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
