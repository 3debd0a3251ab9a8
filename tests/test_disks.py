"""Disks that fill up or refuse, several processes at once, and a clock that jumps back."""

import errno
import multiprocessing
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from unittest.mock import create_autospec

import pytest
from omegaconf import DictConfig
from torch.multiprocessing import ProcessExitedException

from ghosttrack import artifacts, launch
from ghosttrack.artifacts import Key, build, read
from ghosttrack.errors import DataError, GhostTrackError
from ghosttrack.files import telling_full, write_json
from ghosttrack.inventory import age, left_overs
from ghosttrack.pipelines import workers
from ghosttrack.pipelines.setup import Setup
from ghosttrack.processes import ALONE
from ghosttrack.run import Run
from tests.support.commands import Workplace, only, said

KEY = {"model": "m", "k": 16}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no right to mount a disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, *, but: int) -> Path:
    filler = disk / "filler"
    free = shutil.disk_usage(disk).free
    with suppress(OSError), filler.open("wb") as file:
        file.write(bytes(max(free - but, 0)))
    return filler


@pytest.mark.slow
def test_what_a_full_or_locked_disk_stopped_goes_on(workplace: Workplace, disk: Path):
    output = disk / "out"
    small = ("corpus.num_tokens=4096", "corpus.heldout_tokens=1024", "store.shard_tokens=512")
    filler = fill(disk, but=500_000)
    stopped = workplace.fork(output, "extract", *small)
    assert stopped.returncode == 1
    assert stopped.stderr.count("\n") == 1, stopped.stderr
    assert "choose fewer layers" in stopped.stderr or "is full; free some" in stopped.stderr
    filler.unlink()
    said(workplace.fork(output, "extract", *small))
    train = ("train", *small, "trainer.max_steps=60")
    filler = fill(disk, but=300_000)
    stopped = workplace.fork(output, *train)
    assert stopped.returncode == 1
    assert stopped.stderr.count("\n") == 1, stopped.stderr
    assert re.search("is full; free some|resume points .* do not fit", stopped.stderr)
    filler.unlink()
    remount = ["mount", "-o", "remount"]
    subprocess.run([*remount, "-o", "ro", str(disk)], check=True)
    stopped = workplace.fork(output, *train)
    assert stopped.returncode == 1
    assert stopped.stderr.count("\n") == 1, stopped.stderr
    assert "Read-only file system" in stopped.stderr
    subprocess.run([*remount, "-o", "rw", str(disk)], check=True)
    said(workplace.fork(output, *train))
    assert only(output, "saes")
    assert left_overs(output) == []


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EIO, errno.ENOSPC])
def test_a_disk_that_refuses_in_the_middle_is_one_line(
    code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def task(_: DictConfig) -> None:
        raise OSError(code, os.strerror(code), str(tmp_path / "file"))

    with pytest.raises(SystemExit) as caught:
        launch._run(task, DictConfig({}))
    assert caught.value.code == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{tmp_path}/file" in said
    assert "the same command goes on" in said


@pytest.mark.parametrize("error", [RuntimeError("open: Read-only file system"), OSError(30, "x")])
def test_a_disk_that_refuses_keeps_its_own_number(error: Exception, tmp_path: Path):
    with pytest.raises(OSError, match=r".") as caught, telling_full(tmp_path):
        raise error
    assert caught.value.errno == 30


def _build_slowly(root: Path, log: Path) -> None:
    def write(folder: Path) -> None:
        with log.open("a") as file:
            file.write("x")
        time.sleep(0.2)
        (folder / "numbers.txt").write_text("1 2 3")

    build(Key(root, "saes", "x", KEY), write)


@pytest.mark.parametrize("n", [2, 4])
def test_of_several_processes_one_builds(tmp_path: Path, n: int):
    context, log = multiprocessing.get_context("fork"), tmp_path / "log"
    workers = [context.Process(target=_build_slowly, args=(tmp_path, log)) for _ in range(n)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0] * n
    assert log.read_text() == "x"
    assert [one.suffix for one in (tmp_path / "saes").glob(".*")] in ([], [".lock"])


def test_a_clock_that_jumps_back_changes_no_artefact(tmp_path: Path, monkeypatch):
    ticks = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: next(ticks))
    made = build(Key(tmp_path, "saes", "x", KEY), lambda folder: write_json(folder / "a", 1))
    assert read(made.path, verify=True).id == made.id
    assert made.manifest["seconds"] >= 0
    assert age(time.strftime("%Y-%m-%dT%H:%M:%S%z")) == "0 s"


def test_an_extraction_process_that_is_killed_is_one_line(tmp_path: Path, monkeypatch):
    def spawn(*_: object, **_more: object) -> None:
        raise ProcessExitedException(
            "process 1 terminated with signal SIGKILL",
            *(1, 77, -9, "SIGKILL"),
        )

    monkeypatch.setattr(workers.HydraConfig, "get", lambda: DictConfig({"job_logging": {}}))
    monkeypatch.setattr(workers.multiprocessing, "spawn", spawn)
    setup = create_autospec(Setup, instance=True, config=None, run=None)
    setup.run = Run(tmp_path, "extract")
    with pytest.raises(
        GhostTrackError, match=r"\Aextract\.devices=2: process 1 [^\n]*SIGKILL[^\n]+\Z"
    ):
        workers.together(print, setup, 2)


@pytest.mark.parametrize("distributed", [True, False])
def test_no_rank_waits_for_ever(tmp_path: Path, monkeypatch, distributed: bool):
    monkeypatch.setattr(artifacts, "place", lambda: ALONE._replace(rank=1, world_size=2))
    monkeypatch.setattr(artifacts, "PATIENCE_S", 0.3)
    owner = tmp_path / "saes" / f".x-{artifacts.artifact_id(KEY)}.owner"
    owner.parent.mkdir()
    owner.write_text(f"pid {2**22 + 1} on {os.uname().nodename}")  # no such process
    with pytest.raises(DataError, match=r"nothing has changed there for 0 s \(GHOST[^\n]+\Z"):
        build(Key(tmp_path, "saes", "x", KEY), lambda folder: None, distributed=distributed)
