"""Checkpoints that a kill cannot spoil."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO


class WholeCheckpoints(TorchCheckpointIO):
    """Write a checkpoint beside its place, then rename it.

    Lightning's own goes through memory and the system's temporary folder; where that is another
    disk, the last move is a copy, which a kill can leave half done.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        """Save to a local path."""
        part = Path(f"{path}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, part)
        part.replace(path)
