"""S independent TopK autoencoders, one per hook point, as one module of batched weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ghosttrack.artifacts import read_json, write_json
from ghosttrack.errors import DataError
from ghosttrack.sae.kernels import rows_sum, strongest
from ghosttrack.sae.metrics import HookMetrics, write_metrics
from ghosttrack.sae.saelens import HookWeights, read_hook, write_hook

FORMAT_VERSION = 1


class Acts(NamedTuple):
    """At most k active latents per token, in no particular order; an empty slot has value 0."""

    values: Float[Tensor, "hook batch k"]
    indices: Int[Tensor, "hook batch k"]


class Bank(nn.Module):
    """TopK autoencoders of the same shape at several hook points.

    pre = (s x - b_dec) W_enc + b_enc        acts = TopK(ReLU(pre), k) / s
    x_hat = acts W_dec + b_dec / s

    The parameters live in units where E||x - mean||^2 = d_model: hook point i multiplies its input
    by `scale[i]` = s. What goes in and comes out (`pre_acts`, `encode`, `decode`) is in the raw
    units of the residual stream, and rows of W_dec have norm 1, so an activation of 3 adds a vector
    of length 3 to the reconstruction. `observe` alone speaks in the standardised units.

    Args:
        hooks: Names of the hook points, `layer_<l>`; the first axis of every tensor.
        d_model: Width of the residual stream.
        d_sae: Latents per hook point.
        k: Most latents that are active on one token.
    """

    scale: Tensor

    def __init__(self, hooks: Sequence[str], d_model: int, d_sae: int, k: int) -> None:
        super().__init__()
        self.hooks, self.d_model, self.d_sae, self.k = list(hooks), d_model, d_sae, k
        directions = nn.functional.normalize(torch.randn(len(hooks), d_sae, d_model), dim=-1)
        self.W_enc = nn.Parameter(directions.mT.contiguous())
        self.b_enc = nn.Parameter(torch.zeros(len(hooks), d_sae))
        self.W_dec = nn.Parameter(directions)
        self.b_dec = nn.Parameter(torch.zeros(len(hooks), d_model))
        self.register_buffer("scale", torch.ones(len(hooks)))

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
        """Keep the k largest pre-activations of each token that are above 0."""
        values, indices = strongest(self._pre(x), self.k)
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
        metrics: Sequence[HookMetrics],
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        """Write one SAELens folder per hook point, `bank.json` and `metrics.json`.

        Args:
            folder: Made where it is missing.
            metrics: One per hook point, in the order of `hooks`.
            metadata: Goes into every `cfg.json` under `metadata`, for example `model_name`.
        """
        assert [row.hook for row in metrics] == self.hooks, "metrics are of other hook points"
        folder.mkdir(parents=True, exist_ok=True)
        for i, row in enumerate(metrics):
            # x in raw units needs no scale at the weights: it cancels between in and out
            weights = HookWeights(
                self.W_enc[i],
                self.b_enc[i] / self.scale[i],
                self.W_dec[i],
                self.b_dec[i] / self.scale[i],
            )
            write_hook(folder / row.hook, weights, self.k, {**row._asdict(), **(metadata or {})})
        sizes = {"d_model": self.d_model, "d_sae": self.d_sae, "k": self.k}
        bank = {"format_version": FORMAT_VERSION, "hooks": self.hooks, **sizes}
        write_json(folder / "bank.json", {**bank, "scale": self.scale.tolist()})
        write_metrics(folder / "metrics.json", metrics)

    @classmethod
    @torch.no_grad()
    def load(cls, folder: Path | str) -> "Bank":
        """Read a saved bank, frozen.

        Raises:
            DataError: A file is missing or malformed, or the hook points differ in shape.
        """
        path = Path(folder) / "bank.json"
        if not path.is_file():
            raise DataError(f"{folder} holds no SAE bank: there is no {path.name} in it")
        facts = read_json(path)
        missing = {"hooks", "d_model", "d_sae", "k", "scale"} - facts.keys()
        if missing:
            raise DataError(f"{path} lacks {', '.join(sorted(missing))}")
        bank = cls(facts["hooks"], facts["d_model"], facts["d_sae"], facts["k"])
        bank.scale.copy_(torch.tensor(facts["scale"]))
        for i, hook in enumerate(bank.hooks):
            weights = read_hook(Path(folder) / hook)
            if weights.W_enc.shape != bank.W_enc[i].shape:
                raise DataError(
                    f"{Path(folder) / hook} is {tuple(weights.W_enc.shape)}, "
                    f"but {path} says {tuple(bank.W_enc[i].shape)}"
                )
            bank.W_enc[i], bank.W_dec[i] = weights.W_enc, weights.W_dec
            bank.b_enc[i] = weights.b_enc * bank.scale[i]
            bank.b_dec[i] = weights.b_dec * bank.scale[i]
        return bank.requires_grad_(False).eval()
