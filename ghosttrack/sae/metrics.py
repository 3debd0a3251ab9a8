"""How well a bank reconstructs, per hook point and over a whole set of tokens."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric

from ghosttrack.errors import DataError
from ghosttrack.files import write_json
from ghosttrack.sae.hooks import layer_of

METRICS = "metrics.json"
"""Name of the file, beside the hook points' folders."""
ROUNDING = 1e-12
"""Share of the squares below which their variance is that of roundings."""


class HookMetrics(NamedTuple):
    """One hook point on held-out tokens, in the raw units of the residual stream."""

    layer: int
    hook: str
    fvu: float
    """||x - x_hat||^2 / ||x - mean||^2 over all tokens; 0 is exact, 1 what the mean achieves."""
    explained_variance: float
    """1 - fvu."""
    variance_ratio: float
    """1 - var(x - x_hat) / var(x) over all tokens and dimensions: the earlier codes' figure."""
    l0: float
    """Mean active latents per token."""
    dead_frac: float
    """Latents that fire on none of the tokens."""
    mse: float
    """Mean squared error per element."""
    cosine: float
    """Mean over tokens of the cosine between x and x_hat."""
    mean_act: float
    """Mean of the activations above 0."""
    max_act: float
    n_tokens: int
    ce_recovered: float | None = None
    """`Fidelity.ce_recovered`; None where no language model was at hand."""
    kl: float | None = None
    """`Fidelity.kl`, likewise."""

    def known(self) -> dict[str, object]:
        """Name every number that was measured."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class BankMetrics(Metric):
    """Accumulates float64 sums and takes ratios at the end: ranks and batches do not matter.

    With `reduce` over all ranks, else of this one alone.
    """

    full_state_update = False

    n_tokens: Tensor
    squared_error: Tensor
    error: Tensor
    squared: Tensor
    total: Tensor
    cosine: Tensor
    fired: Tensor
    acts: Tensor
    max_act: Tensor

    def __init__(
        self, hooks: Sequence[str], d_model: int, d_sae: int, *, reduce: bool = True
    ) -> None:
        super().__init__(sync_on_compute=reduce)
        self.hooks = list(hooks)
        per_hook = torch.zeros(len(hooks), dtype=torch.float64)
        for name in ("squared_error", "error", "squared", "cosine", "acts"):
            self.add_state(name, per_hook.clone(), dist_reduce_fx="sum")
        self.add_state("total", per_hook.new_zeros(len(hooks), d_model), dist_reduce_fx="sum")
        count = torch.zeros(len(hooks), d_sae, dtype=torch.long)
        self.add_state("fired", count, dist_reduce_fx="sum")
        self.add_state("n_tokens", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("max_act", torch.zeros(len(hooks)), dist_reduce_fx="max")

    def update(
        self,
        x: Float[Tensor, "hook batch d_model"],
        x_hat: Float[Tensor, "hook batch d_model"],
        values: Float[Tensor, "hook batch k"],
        indices: Int[Tensor, "hook batch k"],
    ) -> None:
        """Add a batch."""
        wide, error = x.double(), x.double() - x_hat.double()
        self.n_tokens += x.shape[1]
        self.squared_error += error.square().sum((1, 2))
        self.error += error.sum((1, 2))
        self.squared += wide.square().sum((1, 2))
        self.total += wide.sum(1)
        self.cosine += torch.cosine_similarity(x.float(), x_hat.float(), dim=-1).double().sum(1)
        self.acts += values.double().sum((1, 2))
        self.fired.scatter_add_(1, indices.flatten(1), (values > 0).long().flatten(1))
        self.max_act = torch.maximum(self.max_act, values.amax((1, 2)))

    def compute(self) -> dict[str, Tensor]:
        """Return a value per hook point under each name of `HookMetrics`; n_tokens has one."""
        n, d_model = self.n_tokens, self.total.shape[1]
        n_active = self.fired.sum(1)
        variance = self.squared - self.total.square().sum(1) / n
        variance = torch.where(variance > ROUNDING * self.squared, variance, torch.nan)
        fvu = self.squared_error / variance
        spread = self.squared - self.total.sum(1).square() / (n * d_model)
        residual = self.squared_error - self.error.square() / (n * d_model)
        return {
            "fvu": fvu,
            "explained_variance": 1 - fvu,
            "variance_ratio": 1 - residual / spread,
            "l0": n_active / n,
            "dead_frac": (self.fired == 0).double().mean(1),
            "mse": self.squared_error / (n * d_model),
            "cosine": self.cosine / n,
            "mean_act": self.acts / n_active.clamp(min=1),
            "max_act": self.max_act,
            "n_tokens": n,
        }

    def rows(self) -> list[HookMetrics]:
        """Return the metrics of every hook point.

        Raises:
            DataError: Activations of one do not vary, or are not finite: FVU has no meaning.
        """
        # torchmetrics squeezes tensors of one element
        found = {name: values.reshape(-1).tolist() for name, values in self.compute().items()}
        (n_tokens,) = found.pop("n_tokens")
        for hook, fvu in zip(self.hooks, found["fvu"], strict=True):
            if not math.isfinite(fvu):
                raise DataError(
                    f"{hook}: its {n_tokens} held-out activations are constant or not finite, so no"
                    " share of their variance is explained; more corpus.heldout_tokens would do"
                )
        return [
            HookMetrics(
                layer_of(hook), hook, **dict(zip(found, values, strict=True)), n_tokens=n_tokens
            )
            for hook, *values in zip(self.hooks, *found.values(), strict=True)
        ]


def write_metrics(path: Path, metrics: Sequence[HookMetrics]) -> None:
    """Write `metrics.json`: a list `hooks` and the number of held-out tokens."""
    rows = [row.known() for row in metrics]
    write_json(path, {"hooks": rows, "n_heldout_tokens": metrics[0].n_tokens})
