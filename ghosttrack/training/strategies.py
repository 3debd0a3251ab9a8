"""How ranks start, where they run, and what each of them keeps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning.accelerators.cuda import CUDAAccelerator
from pytorch_lightning.strategies import DDPStrategy

from ghosttrack.processes import place

GPUS = ("auto", "gpu", "cuda")
"""Values of `trainer.accelerator` that take a GPU where there is one."""
SHARED_FROM = 2**14
"""Latents of a bank that `trainer=auto` trains on several GPUs; the embedded model's has 3,072."""


def sees_one_of_many(accelerator: str) -> bool:
    """Tell whether this rank was given a GPU of its own and sees no other's.

    `srun --gpus-per-task=1` does so: local rank 3 then finds its GPU as number 0.
    """
    return accelerator in GPUS and place().world_size > 1 and torch.cuda.device_count() == 1


class Placement(NamedTuple):
    """What `trainer` leaves to the machine, resolved."""

    devices: Any
    strategy: Any


def resolved(trainer: Mapping[str, Any], n_hooks: int, d_sae: int) -> Placement:
    """Take one device, or as many GPUs as there are and have a hook point to train.

    A bank so small that a second GPU would not pay for its start is trained on one. Processes that
    torchrun or srun started are taken as they are. Several devices share the hook points; where
    there are more devices than those, the batches.
    """
    devices, strategy, here = trainer["devices"], trainer["strategy"], place()
    if devices == "auto":
        is_gpu = trainer["accelerator"] in GPUS and torch.cuda.is_available()
        pays = is_gpu and n_hooks * d_sae >= SHARED_FROM
        seen = min(torch.cuda.device_count(), n_hooks) if pays else 1
        launched = here.world_size // trainer["num_nodes"]
        devices = launched if here.world_size > 1 else seen
    if strategy == "auto" and isinstance(devices, int) and devices * trainer["num_nodes"] > 1:
        strategy = "layers" if devices * trainer["num_nodes"] <= n_hooks else "ddp"
    known = {"layers": LayersStrategy, "ddp": ShardedStrategy}
    return Placement(devices, known[strategy]() if strategy in known else strategy)


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


class RanksStrategy(DDPStrategy):
    """Starts ranks as DDP does, leaves the module as it is, and lets every rank keep its state."""

    def configure_ddp(self) -> None:
        """Wrap nothing: no bucket is copied, no buffer sent."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: object = None
    ) -> None:
        """Write this rank's file."""
        self.checkpoint_io.save_checkpoint(checkpoint, filepath, storage_options=storage_options)


class LayersStrategy(RanksStrategy):
    """Every rank trains hook points of its own: no gradient leaves it."""


class ShardedStrategy(RanksStrategy):
    """Ranks share batches of one bank, and `ShardedAdam` its gradients and moments."""
