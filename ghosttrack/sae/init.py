"""Where a bank starts from: units, centre and encoder gain, all read off a first sample."""

import hashlib
import math

import torch
from jaxtyping import Float
from torch import Tensor

from ghosttrack.errors import DataError
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.select import LEAST_CUT, batch_cut, rows_sum, strongest

WEISZFELD_STEPS = 10


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
    for hook, value in zip(bank.hooks, spread.tolist(), strict=True):
        if not 0 < value < math.inf:
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
    return torch.nn.functional.normalize(drawn, dim=-1)
