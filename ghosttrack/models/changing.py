"""Changes at work in a forward pass."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ghosttrack.models.changes import Change, ChangeKind


class Changing:
    """Applies a random change block after block; of one pass."""

    def __init__(self, change: Change, marked: Bool[Tensor, "batch pos"]) -> None:
        self.change = change
        self.marked = marked
        self.generator = torch.Generator(marked.device).manual_seed(change.seed)

    def __call__(
        self,
        layer: int,
        before: Float[Tensor, "batch pos d_model"],
        after: Float[Tensor, "batch pos d_model"],
    ) -> Float[Tensor, "batch pos d_model"]:
        """Return what the next block reads instead of `after`."""
        if self.change.kind is ChangeKind.noise:
            return self._noisy(after) if layer == self.change.layer else after
        assert self.change.kind is ChangeKind.dropout, self.change
        draw = torch.rand(after.shape, generator=self.generator, device=after.device)
        kept = (draw >= self.change.scale).to(after.dtype) / (1 - self.change.scale)
        return before + kept * (after - before)

    def _noisy(
        self, after: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch pos d_model"]:
        draw = torch.randn(after.shape, generator=self.generator, device=after.device)
        rms = after.float().square().mean(-1, keepdim=True).sqrt()
        noise = (self.change.scale * rms * draw).to(after.dtype)
        return torch.where(self.marked[..., None], after + noise, after)
