"""How ranks start, where they run, and what each of them keeps."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.accelerators.cuda import CUDAAccelerator
from pytorch_lightning.strategies import DDPStrategy

from ghosttrack.processes import place


def sees_one_of_many(accelerator: str) -> bool:
    """Tell whether this rank was given a GPU of its own and sees no other's.

    `srun --gpus-per-task=1` does so: local rank 3 then finds its GPU as number 0.
    """
    is_gpu = accelerator in ("auto", "gpu", "cuda")
    return is_gpu and place().world_size > 1 and torch.cuda.device_count() == 1


class OwnGPU(CUDAAccelerator):
    """Puts every rank on the only GPU that it sees, however many ranks there are."""

    @staticmethod
    def parse_devices(devices: int | str | list[int]) -> list[int]:
        """Take a number of ranks for as many GPUs, which Lightning would look for here."""
        n = len(devices) if isinstance(devices, list) else int(devices)
        return list(range(n))

    @staticmethod
    def get_parallel_devices(devices: list[int]) -> list[torch.device]:
        """Give the device of each local rank."""
        return [torch.device("cuda", 0) for _ in devices]


class LayersStrategy(DDPStrategy):
    """Starts ranks as DDP does, leaves the module as it is, and lets every rank keep its state."""

    def configure_ddp(self) -> None:
        """Wrap nothing: no gradient leaves its rank."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: object = None
    ) -> None:
        """Write this rank's file."""
        self.checkpoint_io.save_checkpoint(checkpoint, filepath, storage_options=storage_options)
