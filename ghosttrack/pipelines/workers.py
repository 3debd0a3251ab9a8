"""A stage done by several processes of this machine, as if torchrun had started them."""

import logging
import os
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from omegaconf import DictConfig, OmegaConf
from torch import multiprocessing

from ghosttrack.config import ExtractProgram
from ghosttrack.errors import GhostTrackError
from ghosttrack.pipelines.setup import Setup
from ghosttrack.processes import place
from ghosttrack.run import Run

log = logging.getLogger(__name__)


def together(
    stage: Callable[[Setup[ExtractProgram]], object], setup: Setup[ExtractProgram], n_processes: int
) -> None:
    """Run a stage in fresh processes, and wait for all; if one fails the others are ended.

    Args:
        stage: A function of a module; finds its share by `processes.place`.
        setup: Its settings and its run's folder are theirs too.
        n_processes: One per GPU; on a CPU they share the cores.

    Raises:
        GhostTrackError: What one of them raised.
    """
    log.info("going on in %d processes", n_processes)
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    faults = multiprocessing.get_context("spawn").SimpleQueue()
    logs = OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True)
    task = _Task(stage, setup.config, setup.run.folder, n_processes, logs)
    try:
        multiprocessing.spawn(_work, (task, faults), nprocs=n_processes)
    except multiprocessing.ProcessExitedException as error:
        if not faults.empty():
            raise faults.get() from None
        said = str(error).splitlines()[0]
        raise GhostTrackError(
            f"extract.devices={n_processes}: {said} (SIGKILL: often no memory was left); the same"
            " command goes on from the last complete shard"
        ) from error


def use_own_gpu() -> None:
    """Let one of several processes run its language model on its own GPU, not all on the first.

    A trainer chooses for its ranks.
    """
    here = place()
    if here.world_size > 1 and torch.cuda.is_available():
        torch.cuda.set_device(here.local_rank % torch.cuda.device_count())  # may see its own alone


class _Task(NamedTuple):
    """What every process is given."""

    stage: Callable[[Setup[ExtractProgram]], object]
    config: ExtractProgram
    folder: Path
    n_processes: int
    logs: Any
    """Hydra's `job_logging`, which a fresh process lacks."""


def _work(rank: int, task: _Task, faults: "SimpleQueue[GhostTrackError]") -> None:
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": task.n_processes}
    os.environ |= {name: str(number) for name, number in names.items()}
    use_own_gpu()
    torch.set_num_threads(max(torch.get_num_threads() // task.n_processes, 1))
    if rank == 0:
        configure_log(DictConfig(task.logs))
    try:
        task.stage(Setup(task.config, Run(task.folder, "extract")))
    except GhostTrackError as error:
        faults.put(error)
        raise SystemExit(1) from error
