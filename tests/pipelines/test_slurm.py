"""Sweeps on a real SLURM of one node: arrays, ranks, preemption."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ghosttrack.files import read_json
from tests.support.commands import (
    DDP,
    PATIENCE_S,
    ROOT,
    Workplace,
    artifacts,
    contents,
    environment,
    only,
    resume_step,
)
from tests.support.wandb_run import read_run

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not all(map(shutil.which, ("slurmctld", "slurmd", "munged"))) or os.geteuid() != 0,
        reason="needs slurm-wlm and munge, and root: apt-get install slurm-wlm munge",
    ),
]

SCRIPTS = ROOT / "tests" / "support" / "slurm"
STEPS = 300
USR2, REQUEUE = ("scancel", "--signal=USR2"), ("scontrol", "requeue")
JOBS = (
    *("-m", "hydra/launcher=slurm", *DDP, f"trainer.max_steps={STEPS}"),
    "train.checkpoint_every=100",
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables with which SLURM's programs find the cluster."""
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([SCRIPTS / "slurm-here.sh", folder], check=True, stdout=subprocess.DEVNULL)
    yield {
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PATH": f"{SCRIPTS}:{os.environ['PATH']}",  # the stand-in for sacct
    }
    subprocess.run([SCRIPTS / "slurm-here.sh", "--stop", folder], check=True)


class Sweep:
    """A sweep that was submitted, and what it says."""

    def __init__(self, place: Workplace, cluster: dict[str, str], output: Path, *more: str) -> None:
        self.output, self.variables = output, environment(place.home) | cluster
        self.process = subprocess.Popen(
            place.command(output, "train", *JOBS, *more),
            cwd=place.home,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ask(self, *command: str) -> str:
        """Run one of SLURM's programs."""
        return subprocess.run(
            command, env=self.variables, check=True, capture_output=True, text=True
        ).stdout

    def wait_for(self, holds: Callable[[], bool]) -> None:
        """Return when something holds of the running sweep."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)

    def end(self) -> tuple[int, str]:
        """Wait for the last job."""
        said, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, said

    def folder(self) -> Path:
        """Where the jobs' folders are."""
        (folder,) = (self.output / "tiny" / "sweeps").glob("2*")
        return folder


@pytest.fixture(scope="module")
def submit(workplace: Workplace, cluster: dict[str, str]) -> Iterator[Callable[..., Sweep]]:
    sweeps: list[Sweep] = []

    def begin(output: Path, *more: str) -> Sweep:
        sweeps.append(Sweep(workplace, cluster, output, *more))
        return sweeps[-1]

    yield begin
    for sweep in sweeps:  # none of them outlives a test that failed
        sweep.process.kill()


@pytest.fixture(scope="module")
def swept(
    submit: Callable[..., Sweep], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Sweep, int, str]:
    """Two jobs of two ranks, one of them refused."""
    sweep = submit(tmp_path_factory.mktemp("swept"), "sae.k=8,9999")
    return sweep, *sweep.end()


def test_an_array_of_jobs_says_how_to_watch_it_and_how_each_went(swept: tuple[Sweep, int, str]):
    sweep, status, said = swept
    assert status == 1, said
    (array,) = set(re.findall(r"SLURM job (\d+)_[01]: sae\.k=", said))
    assert (
        f"squeue --jobs={array}; one: scontrol show job {array}_0; end them: scancel {array}"
        in said
    )
    assert re.search(r"^0 +done +\d+ s +sae\.k=8\b", said, re.MULTILINE)
    assert re.search(r"^1 +FAILED \(1\) +\d+ s +sae\.k=9999\b", said, re.MULTILINE)
    assert f"1 of 2 sweep jobs failed; their logs are in {sweep.folder()}" in said
    watched = [Path(path) for path in re.findall(r"tail -f (\S+)", said)]
    assert "config: sae.k must be in 1..sae.d_sae=64, got 9999" in watched[1].read_text()
    assert "bank in " in watched[0].read_text()


def test_what_slurm_refuses_is_one_line(submit: Callable[..., Sweep], tmp_path: Path):
    status, said = submit(tmp_path, "sae.k=8", "hydra.launcher.partition=nowhere").end()
    assert status == 1
    assert said.splitlines()[-1].startswith("hydra/launcher=slurm: sbatch: error: ")
    assert "Traceback" not in said


def test_a_jobs_tasks_are_the_ranks_of_one_training(swept: tuple[Sweep, int, str]):
    sweep, _, _ = swept
    (job,) = (sweep.folder() / "slurm").glob("*_0")
    logs = {path.name.split("_")[2]: path.read_text() for path in job.glob("*_log.out")}
    assert logs.keys() == {"0", "1"}
    assert "MEMBER: 1/2" in logs["0"]
    assert "MEMBER: 2/2" in logs["1"]
    assert "bank in" not in logs["1"]
    metrics = read_json(sweep.folder() / "0" / "metrics.json")["train"]
    assert Path(metrics["bank"]) == only(sweep.output, "saes")


@pytest.mark.long
@pytest.mark.parametrize(
    "ends",
    [
        pytest.param({100: ("SIGUSR2", USR2)}, id="a signal ahead"),
        pytest.param(
            {100: ("SIGUSR2", USR2), 200: ("SIGTERM", REQUEUE)},
            id="then by SLURM at once",
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_preempted_job_is_queued_again_and_ends_with_the_same_weights(
    submit: Callable[..., Sweep],
    swept: tuple[Sweep, int, str],
    tmp_path: Path,
    ends: dict[int, tuple[str, tuple[str, str]]],
):
    sweep = submit(tmp_path, "sae.k=8", "logger=wandb")
    stopped = {}
    for last, (signal, end) in ends.items():
        sweep.wait_for(lambda last=last: resume_step(tmp_path) == last)
        (job,) = sweep.ask("squeue", "--noheader", "--format=%A").split()
        sweep.ask(*end, job)
        sweep.wait_for(lambda: "PENDING" in sweep.ask("squeue", "--noheader", "--format=%T"))
        stopped[signal] = resume_step(tmp_path)
        assert last < stopped[signal] < STEPS
        assert artifacts(tmp_path, "saes") == {}
        sweep.ask("scontrol", "update", f"JobId={job}", "StartTime=now")  # not in two minutes

    status, said = sweep.end()
    assert status == 0, said
    assert contents(only(tmp_path, "saes")) == contents(only(swept[0].output, "saes"))
    (log,) = (sweep.folder() / "slurm").glob("*/*_0_log.out")
    for signal, step in stopped.items():
        assert f"stopped by {signal} at step {step}: the same command goes on" in log.read_text()
        assert re.search(rf"going on from .*step-{step}-of-2", log.read_text())
    logged = [
        read_run(file) for file in sorted(sweep.folder().glob("0/wandb/offline-run-*/*.wandb"))
    ]
    assert len({run.run_id for run in logged}) == 1
    assert (logged[0].exit_code, logged[-1].exit_code) == (1, 0)
