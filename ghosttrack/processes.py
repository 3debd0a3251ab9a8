"""This process: among those started together (torchrun, SLURM, Lightning), and on a machine."""

import os
import platform
import sys
from pathlib import Path
from typing import NamedTuple

RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
"""Set by torchrun, by srun, and by Lightning for the ranks that it starts on one node."""
WORLD_SIZES = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
"""The latter is there only where srun started the process: a batch script is alone."""
LOCAL_RANKS = ("LOCAL_RANK", "SLURM_LOCALID")
DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""One of these is there where a GPU's driver is: NVIDIA's, that of WSL, AMD's."""
CPUINFO = Path("/proc/cpuinfo")


class Place(NamedTuple):
    """One process and its share."""

    rank: int
    local_rank: int
    """Among those of this machine: the GPU to use."""
    world_size: int


ALONE = Place(rank=0, local_rank=0, world_size=1)


def place() -> Place:
    """Read where this process stands; alone where no launcher says otherwise."""
    rank, local_rank = _largest(RANKS), _largest(LOCAL_RANKS)
    return Place(rank, local_rank, max(_largest(WORLD_SIZES), rank + 1))


def has_gpu() -> bool:
    """Tell whether PyTorch sees a GPU; where Linux has no driver it need not be imported."""
    if sys.platform == "linux" and not any(Path(driver).exists() for driver in DRIVERS):
        return False
    import torch

    return torch.cuda.is_available()


def machine() -> str:
    """Say what this process runs on: processor, cores that it may use, GPU, PyTorch's threads."""
    named = platform.processor() or platform.machine()
    if CPUINFO.is_file():
        lines = (line.partition(":") for line in CPUINFO.read_text().splitlines())
        named = next((held.strip() for name, _, held in lines if "model name" in name), named)
    n_cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    said = [named, f"cores: {n_cores}"]
    torch = sys.modules.get("torch")
    said.append(f"GPU: {torch.cuda.get_device_name()}" if torch and has_gpu() else "no GPU")
    return ", ".join([*said, *([f"PyTorch threads: {torch.get_num_threads()}"] if torch else [])])


def _largest(names: tuple[str, ...]) -> int:
    return max(int(os.environ.get(name, "0")) for name in names)
