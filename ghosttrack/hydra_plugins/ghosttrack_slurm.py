"""`hydra/launcher=slurm`: a sweep as an array of SLURM jobs, through submitit."""

import logging
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher
from omegaconf import OmegaConf

from ghosttrack import launch

ANY_FAILS_ALL = "export SLURM_KILL_BAD_EXIT=1"
"""Else the other ranks wait for one that is gone until the time limit."""

log = logging.getLogger(__name__)


class ArrayLauncher(SlurmLauncher):
    """Submits all jobs, says how to watch them, and waits until none is left.

    A job that SLURM ended leaves the others' results alone.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> JobReturn:  # noqa: ANN401
        """Run one rank of a job.

        Raises:
            RuntimeError: It failed; so that SLURM knows, and the other ranks end.
        """
        ended = super().__call__(*args, **kwargs)
        if ended.return_value:
            raise RuntimeError(f"exit status {ended.return_value}")
        return ended

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run a job of each list of overrides."""
        calls = [
            (list(overrides), "hydra.sweep.dir", number, "", Singleton.get_state())
            for number, overrides in enumerate(job_overrides, start=initial_job_idx)
        ]
        jobs = self._submit(calls)
        self._announce(jobs, job_overrides)
        return [
            self._wait(job, number, overrides)
            for job, (overrides, _, number, *_) in zip(jobs, calls, strict=True)
        ]

    def _submit(self, calls: Sequence[tuple[Any, ...]]) -> Any:  # noqa: ANN401 (no types)
        from submitit.core.utils import FailedJobError

        try:
            return self._executor().map_array(self, *zip(*calls, strict=True))
        except (FailedJobError, RuntimeError, OSError, subprocess.SubprocessError) as error:
            said = [line for line in str(error).splitlines() if line.strip()]
            launch.fail(f"hydra/launcher=slurm: {said[-1] if said else type(error).__name__}")

    def _executor(self) -> Any:  # noqa: ANN401 (submitit has no types)
        import submitit

        assert self.config is not None
        params = dict(self.params)
        params["setup"] = [ANY_FAILS_ALL, *(params["setup"] or [])]
        devices = OmegaConf.select(self.config, "trainer.devices", default=1)
        if isinstance(devices, int):
            params["tasks_per_node"] = max(params["tasks_per_node"], devices)
        is_said = any(params[name] for name in ("gpus_per_node", "gpus_per_task", "gres"))
        if not is_said and self._wants_gpus():
            params["gpus_per_node"] = params["tasks_per_node"]
        executor = submitit.AutoExecutor(
            folder=params.pop("submitit_folder"),
            cluster=self._EXECUTOR,
            slurm_max_num_timeout=params.pop("max_num_timeout"),
        )
        shared = {field.name for field in fields(BaseQueueConf)}
        executor.update_parameters(
            **{name if name in shared else f"slurm_{name}": params[name] for name in params}
        )
        return executor

    def _wants_gpus(self) -> bool:
        """Tell whether the jobs are to have GPUs: where they may take what there is, if it is."""
        assert self.config is not None
        accelerator = OmegaConf.select(self.config, "trainer.accelerator", default="auto")
        if accelerator != "auto" or self.config.model.device == "cpu":
            return accelerator == "gpu"
        partition = [f"--partition={self.params['partition']}"] if self.params["partition"] else []
        command = ["sinfo", "--noheader", "--format=%G", *partition]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return "gpu" in said

    def _announce(self, jobs: Sequence[Any], job_overrides: Sequence[Sequence[str]]) -> None:
        for job, words in zip(jobs, launch.telling(job_overrides), strict=True):
            log.info(
                "SLURM job %s: %s\n    tail -f %s",
                *(job.job_id, words, shlex.quote(str(job.task(0).paths.stdout))),
            )
        array = jobs[0].job_id.partition("_")[0]
        log.info(
            "all of them: squeue --jobs=%s; one: scontrol show job %s; end them: scancel %s",
            *(array, jobs[0].job_id, array),
        )

    def _wait(self, job: Any, number: int, overrides: Sequence[str]) -> JobReturn:  # noqa: ANN401
        """Wait for rank 0, which alone tells how a job went."""
        from submitit.core.utils import FailedJobError, UncompletedJobError

        assert self.config is not None
        try:
            return job.task(0).result()
        except (FailedJobError, UncompletedJobError):
            folder = Path(self.config.hydra.sweep.dir, str(number))
            if not (folder / launch.STATUS).exists():
                log.warning("SLURM job %s broke off; see %s", job.job_id, job.task(0).paths.stdout)
                launch.keep_status(folder, launch.JobStatus(filter_overrides(overrides), 1, None))
            return JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=1)
