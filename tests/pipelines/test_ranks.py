"""Several processes train one bank, through the command line; kills and signals included."""

import csv
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.support import tiny
from tests.support.commands import (
    PATIENCE_S,
    Workplace,
    artifacts,
    contents,
    environment,
    measured,
    only,
    resume_step,
    said,
    weights,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = 20
"""So few that Adam has not magnified the rounding of sums in another order."""
KILLED_STEPS = 60
"""So many that a kill comes in time."""
SETTINGS = (
    "sae.base_lr=7.0e-4",  # the embedded model's: at less no latent dies
    *(f"trainer.max_steps={STEPS}", "trainer.log_every_n_steps=5", "train.checkpoint_every=5"),
    "sae.dead_after_tokens=600",  # so few that some latents are dead now and then
)
KILLED = f"trainer.max_steps={KILLED_STEPS}"


def ranks(trainer: str, n: int, *more: str) -> tuple[str, ...]:
    return (
        *SETTINGS,
        *more,
        f"trainer={trainer}",
        "trainer.accelerator=cpu",
        f"trainer.devices={n}",
    )


@pytest.fixture(scope="module")
def layered(workplace: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The workplace, its model replaced by one of five layers: more than there are ranks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "N_LAYERS", 5)
        return workplace._replace(model=tiny.tiny_gpt2(tmp_path_factory.mktemp("five-layers")))


@pytest.fixture(scope="module")
def alone(layered: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process leaves."""
    output = tmp_path_factory.mktemp("alone")
    said(layered.fork(output, "train", *SETTINGS))
    assert max(curves(output)["train/dead_frac"]) > 0
    return output


def curves(output: Path) -> dict[str, list[float]]:
    """Every column that the CSV logger wrote, less what tells of the machine."""
    (path,) = output.rglob("metrics.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    told = [one for one in rows[0] if one != "tokens_per_s" and not one.startswith("machine/")]
    return {name: [float(row[name]) for row in rows if row[name]] for name in told}


def same_to_rounding(output: Path, alone: Path) -> None:
    assert artifacts(output, "saes").keys() == artifacts(alone, "saes").keys()
    ours, theirs = curves(output), curves(alone)
    assert ours.keys() == theirs.keys()
    assert len(ours["train/loss"]) == STEPS // 5
    assert ours["train/dead_frac"] == theirs["train/dead_frac"]
    for name in theirs:
        assert ours[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-6), name
    bank, expected = only(output, "saes"), only(alone, "saes")
    for one, other in zip(measured(bank), measured(expected), strict=True):
        assert one["dead_frac"] == other["dead_frac"]
    wanted = weights(expected)
    for name, tensor in weights(bank).items():
        # The order in which gradients are summed differs; Adam magnifies that where one is near 0.
        torch.testing.assert_close(tensor, wanted[name], atol=1e-4, rtol=0, msg=name)


@pytest.mark.parametrize("n", [2, pytest.param(4, marks=pytest.mark.long)])
def test_ranks_that_share_batches_train_the_same_bank_as_one(
    layered: Workplace, alone: Path, tmp_path: Path, n: int
):
    printed = said(layered.fork(tmp_path, "train", *ranks("ddp", n)))
    assert printed.count(f"MEMBER: {n}/{n}") == 1
    same_to_rounding(tmp_path, alone)


@pytest.mark.parametrize(
    ("source", "n"), [pytest.param("store", 3, marks=pytest.mark.long), ("stream", 2)]
)
def test_ranks_that_share_layers_train_the_same_bank_bit_for_bit(
    layered: Workplace, alone: Path, tmp_path: Path, source: str, n: int
):
    more = (f"train.source={source}", "train.buffer_tokens=4096")
    printed = said(layered.fork(tmp_path / "n", "train", *ranks("layers", n), *more))
    assert printed.count(f"MEMBER: {n}/{n}") == 1
    if source == "stream":
        alone = tmp_path / "1"
        said(layered.fork(alone, "train", *SETTINGS, *more))
    bank = only(tmp_path / "n", "saes")
    assert bank.name == only(alone, "saes").name
    assert contents(bank) == contents(only(alone, "saes"))
    ours, theirs = curves(tmp_path / "n"), curves(alone)
    # A sum over hook points, by ranks first.
    assert ours.pop("train/loss") == pytest.approx(theirs.pop("train/loss"), rel=1e-6)
    assert ours == theirs


def test_more_ranks_than_hook_points_are_refused_before_anything_is_built(
    layered: Workplace, tmp_path: Path
):
    refused = layered.fork(tmp_path, "train", *ranks("layers", 6))
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert line.startswith("config: trainer.devices * trainer.num_nodes = 6 ranks for 5 hook point")
    assert artifacts(tmp_path, "activations") == {}


class Job:
    """A command that runs in a process group of its own, to be killed in part or whole."""

    def __init__(self, place: Workplace, output: Path, *more: str, **variables: str) -> None:
        self.output = output
        self.process = subprocess.Popen(
            place.command(output, "train", *more),
            cwd=place.home,
            env=environment(place.home) | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def living(self) -> dict[int, int]:
        """Pids of the group by rank."""
        found = {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, group = status.read_text().rpartition(")")[2].split()[:3]
                if int(group) != self.process.pid or state == "Z":
                    continue
                variables = (status.parent / "environ").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            mine = [one for one in variables if one.startswith(b"LOCAL_RANK=")]
            found[int(mine[0].partition(b"=")[2]) if mine else 0] = int(status.parent.name)
        return found

    def wait_for(self, step: int) -> None:
        """Return when there is a resume point at a step or later."""
        self._wait(lambda: resume_step(self.output) >= step or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.communicate()

    def end(self) -> tuple[int, str]:
        """Wait for the whole group to end; return the status and the last line on stderr."""
        _, complaints = self.process.communicate(timeout=PATIENCE_S)
        self._wait(lambda: not self.living())
        return self.process.returncode, (complaints.splitlines() or [""])[-1]

    def _wait(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.001)


@pytest.fixture
def start(layered: Workplace, tmp_path: Path) -> Iterator[Callable[..., Job]]:
    jobs: list[Job] = []

    def begin(*more: str, **variables: str) -> Job:
        jobs.append(Job(layered, tmp_path, *more, **variables))
        return jobs[-1]

    yield begin
    for job in jobs:  # none of them outlives a test that failed
        if job.living():
            os.killpg(job.process.pid, signal.SIGKILL)


@pytest.mark.long  # what SLURM preempts is two ranks too, and tested by default
def test_two_ranks_go_on_bit_for_bit_whoever_was_killed(
    start: Callable[..., Job], layered: Workplace, tmp_path: Path
):
    said(layered.run(tmp_path / "whole", "train", *ranks("ddp", 2, KILLED)))
    job = start(*ranks("ddp", 2, KILLED))
    job.wait_for(5)
    os.kill(job.living()[1], signal.SIGKILL)
    status, last = job.end()
    assert status != 0
    assert last in ("", "another rank ended; the same command goes on from the last resume point")
    assert artifacts(tmp_path, "saes") == {}

    job = start(*ranks("ddp", 2, KILLED))
    job.wait_for(random.randrange(resume_step(tmp_path) + 1, KILLED_STEPS - 15))
    os.killpg(job.process.pid, signal.SIGKILL)
    assert job.end()[0] == -signal.SIGKILL

    assert start(*ranks("ddp", 2, KILLED)).end()[0] == 0
    assert contents(only(tmp_path, "saes")) == contents(only(tmp_path / "whole", "saes"))


@pytest.mark.long
def test_ranks_of_layers_go_on_bit_for_bit_and_so_does_one(
    start: Callable[..., Job], layered: Workplace, tmp_path: Path
):
    said(layered.fork(tmp_path / "whole", "train", *SETTINGS, KILLED))
    job = start(*ranks("layers", 2, KILLED))
    job.wait_for(random.randrange(5, KILLED_STEPS // 2))
    os.killpg(job.process.pid, signal.SIGKILL)
    assert job.end()[0] == -signal.SIGKILL

    # A signal to any one of them ends all, at the step where they are.
    before = resume_step(tmp_path)
    job = start(*ranks("layers", 2, KILLED), "train.checkpoint_every=7")
    job.wait_for(before + 1)
    os.kill(job.living()[1], signal.SIGTERM)
    status, last = job.end()
    assert status == 128 + signal.SIGTERM
    assert before < resume_step(tmp_path) < KILLED_STEPS
    assert last == (
        f"stopped by SIGTERM at step {resume_step(tmp_path)}: the same command goes on from there"
    )

    assert start(*SETTINGS, KILLED).end()[0] == 0  # what two ranks left, one takes up
    assert contents(only(tmp_path, "saes")) == contents(only(tmp_path / "whole", "saes"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("trainer", ["ddp", "layers"])
def test_one_rank_over_nccl_trains_the_bank_of_a_gpu_without_it(
    layered: Workplace, tmp_path: Path, trainer: str
):
    assert torch.distributed.get_default_backend_for_device("cuda") == "nccl"
    one = (*SETTINGS, "trainer.devices=1", "train.precision=fp32")
    said(layered.run(tmp_path / "gpu", "train", *one, "trainer=gpu"))
    printed = said(layered.run(tmp_path / "nccl", "train", *one, f"trainer={trainer}"))
    assert "MEMBER: 1/1" in printed
    banks = (only(tmp_path / name, "saes") for name in ("nccl", "gpu"))
    for ours, theirs in zip(*map(measured, banks), strict=True):
        assert ours["fvu"] == pytest.approx(theirs["fvu"], abs=1e-3)  # a GPU sums in any order
