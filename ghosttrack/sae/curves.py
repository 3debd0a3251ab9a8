"""What a training run logs, under the names by which dashboards group it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ghosttrack.sae.evaluate import gather
from ghosttrack.sae.loss import Losses

METRIC_KEYS = (
    "train/loss", "train/fvu/{hook}", "train/fvu_mean", "train/fvu_max", "train/dead_frac",
    "heldout/fvu/{hook}", "heldout/fvu_mean", "heldout/fvu_max", "lr", "tokens_per_s",
)  # fmt: skip
"""Everything a run logs; `{hook}` stands for each hook point."""


class Curves(NamedTuple):
    """A step's numbers, off its device; FVU and dead fraction are of the global batch."""

    fvu: dict[str, float]
    dead_frac: dict[str, float]
    loss: float

    def entries(self) -> dict[str, float]:
        """Name them."""
        dead = sum(self.dead_frac.values()) / len(self.dead_frac)
        return fvu_entries("train", self.fvu) | {"train/loss": self.loss, "train/dead_frac": dead}


def curves(hooks: Sequence[str], losses: Losses, *, reduce: bool) -> Curves:
    """Take a step's numbers over all ranks.

    Args:
        hooks: This rank's hook points.
        losses: Of this rank.
        reduce: Ranks share the batches of one bank; false where each has hook points of its own.
    """
    fvu, dead = (
        dict(zip(hooks, values.tolist(), strict=True)) for values in (losses.fvu, losses.dead_frac)
    )
    ranks = gather(Curves(fvu, dead, losses.loss.item()))
    loss = sum(rank.loss for rank in ranks)
    return Curves(
        union([rank.fvu for rank in ranks]),
        union([rank.dead_frac for rank in ranks]),
        loss / len(ranks) if reduce else loss,
    )


def fvu_entries(split: str, fvu: Mapping[str, float]) -> dict[str, float]:
    """Name a FVU per hook point, their mean and the worst.

    >>> fvu_entries("heldout", {"layer_0": 0.25, "layer_1": 0.75})
    {'heldout/fvu/layer_0': 0.25, 'heldout/fvu/layer_1': 0.75, 'heldout/fvu_mean': 0.5, \
'heldout/fvu_max': 0.75}
    """
    hooks = {f"{split}/fvu/{hook}": value for hook, value in fvu.items()}
    mean, worst = sum(fvu.values()) / len(fvu), max(fvu.values())
    return {**hooks, f"{split}/fvu_mean": mean, f"{split}/fvu_max": worst}


def union(ranks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Join what ranks say of their hook points; of one bank they all say the same."""
    return {hook: value for rank in ranks for hook, value in rank.items()}
