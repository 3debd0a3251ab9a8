"""Run a program's task: faults as one line, every sweep job in a process of its own."""

import atexit
import functools
import inspect
import itertools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ghosttrack.artifacts import at_work
from ghosttrack.command import mute, take_any_text
from ghosttrack.config import Program, load
from ghosttrack.errors import ConfigError, GhostTrackError, Preempted
from ghosttrack.files import DISK_FULL, UNWRITABLE, link_last, write_json
from ghosttrack.processes import place
from ghosttrack.typed import check_old_names, composing, literal, quote

Task = Callable[[DictConfig], None]

STATUS = "status.json"
"""What became of a sweep job, in the job's folder."""
LOCAL = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
"""The launcher of a sweep whose jobs run here, one after the other."""
FULL_ERROR = "HYDRA_FULL_ERROR"
"""Variable that has Hydra raise what goes wrong, and us show where."""
RUN_DIR = "hydra.run.dir="
"""So says Lightning which folder the ranks share; those of torchrun and srun each read a clock."""
SWEEP_DIR = "hydra.sweep.dir="
RUN_BYTES = 2**18
"""More than the files of a run's folder take, which Hydra writes before any fault can be told."""
GOES_ON = "the same command goes on from the last complete point"
INTERRUPTED = f"interrupted: {GOES_ON}"
WIDE = 200
"""Columns of a table that goes to no terminal."""


class JobStatus(NamedTuple):
    """What became of a sweep job."""

    overrides: Sequence[str]
    exit: int
    seconds: float | None
    """Of its last run if it was queued again; none if it never came to its end."""


def program(
    name: str, schema: type[Program]
) -> Callable[[Callable[[Program], None]], Callable[[], None]]:
    """Make a program of what a script beside `conf/` does with the settings `conf/<name>.yaml`."""

    def made(main: Callable[[Program], None]) -> Callable[[], None]:
        task = framed(with_settings(schema, main))
        return as_typed(hydra.main(version_base="1.3", config_path="conf", config_name=name)(task))

    return made


def with_settings(schema: type[Program], main: Callable[[Program], None]) -> Task:
    """Do a task with checked settings, while nobody deletes what it may use."""

    @functools.wraps(main)
    def task(cfg: DictConfig) -> None:
        config = load(cfg, schema)
        with at_work(Path(config.output_root, config.model.name)):
            main(config)

    return task


def framed(task: Task) -> Callable[[DictConfig], int | None]:
    """Wrap a Hydra task function.

    A sweep job is run again as a single run in a fresh process: Lightning starts the other ranks of
    a DDP job by repeating the command line, which inside a sweep would start a second sweep; and
    CUDA memory, process groups, W&B and random states begin anew. Under SLURM every rank of a job
    is such a process already, and the one that signals reach. A fault that the user can mend ends
    the program with one line and status 1; `HYDRA_FULL_ERROR=1` shows the traceback.
    """

    @functools.wraps(task)
    def run(cfg: DictConfig) -> int | None:
        if HydraConfig.get().mode != RunMode.MULTIRUN:
            return _run(task, cfg)
        is_rank = os.environ.get("SUBMITIT_EXECUTOR") == "slurm"
        started = time.monotonic()
        status = _run_here(task, cfg) if is_rank else _run_anew(task)
        if not is_rank or place().rank == 0:
            hydra = HydraConfig.get()
            keep_status(
                Path(hydra.runtime.output_dir),
                JobStatus(hydra.overrides.task, status, round(time.monotonic() - started, 3)),
            )
        return status

    return run


def as_typed(main: Callable[[], None]) -> Callable[[], None]:
    """Take the command line as it is meant before Hydra sees it.

    A setting by an old name is answered with the new one; one that takes a text takes any text.
    """

    @functools.wraps(main)
    def run() -> None:
        try:
            take_any_text()
            check_old_names(sys.argv[1:])
            sys.argv[1:] = literal(sys.argv[1:])
            if _shows_all():
                main()
                return
            os.environ[FULL_ERROR] = "1"  # until `Frame` takes over
            Frame.is_composing = True
            with composing(sys.argv[1:]):
                main()
        except ConfigError as error:
            fail(f"config: {error}")
        except HydraException as error:
            cause = error.__cause__
            fail(f"{error}\n{cause}" if isinstance(cause, OmegaConfBaseException) else str(error))
        except KeyboardInterrupt:
            _exit(INTERRUPTED, 130)

    return run


def _shows_all() -> bool:
    return os.environ.get(FULL_ERROR) == "1"


def _run(task: Task, cfg: DictConfig) -> None:
    if _shows_all():
        task(cfg)
        return
    logging.raiseExceptions = False  # a log that cannot be written is no reason for tracebacks
    try:
        task(cfg)
    except GhostTrackError as error:
        kind = "config: " if isinstance(error, ConfigError) else ""
        _exit(f"{kind}{error}", 1)
    except BrokenPipeError:
        mute()
        _exit(f"stopped, as nobody reads what it says: {GOES_ON}", 1)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        path = error.filename or HydraConfig.get().runtime.output_dir
        is_full = error.errno in DISK_FULL
        _exit(_full(path) if is_full else f"{path}: {error.strerror}; {GOES_ON}", 1)
    except KeyboardInterrupt:
        _exit(INTERRUPTED, 130)
    except Preempted as stopped:
        _exit(f"stopped by {stopped}: the same command goes on from there", 128 + signal.SIGTERM)


def _full(path: str | Path) -> str:
    return f"output_root: the disk of {path} is full; free some, and {GOES_ON}"


class Frame(Callback):
    """Hydra callback around a run or a sweep.

    Before: refuse an output folder that cannot be written in one line, where Hydra would show a
    traceback. After a sweep: a table of its jobs, and status 1 if any failed.
    """

    is_composing: ClassVar[bool] = False
    """Hydra has been told to raise, which `as_typed` answers, until its settings are together."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401
        """Take a folder; that of a rank which does not know the first one's passes away."""
        hydra = self._composed(config, "run")
        launcher = hydra.launcher._target_
        if launcher != LOCAL:
            name = "slurm" if "slurm" in launcher.lower() else "joblib"
            _exit(f"config: hydra/launcher={name} starts the jobs of a sweep; add -m", 1)
        if any(one.startswith(RUN_DIR) for one in hydra.overrides.hydra):
            _make(Path(hydra.run.dir))
            return
        with read_write(config):
            if place().rank == 0:
                hydra.run.dir = str(_take(Path(hydra.run.dir)))
            else:
                hydra.run.dir = tempfile.mkdtemp(prefix="ghosttrack-rank-")
                atexit.register(shutil.rmtree, hydra.run.dir, ignore_errors=True)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401
        """Take a folder for the sweep, the same for all jobs, be they of several models."""
        folder = Path(self._composed(config, "sweep").sweep.dir)
        if any(one.startswith(SWEEP_DIR) for one in config.hydra.overrides.hydra):
            _make(folder)
            for file in _statuses(folder):
                file.unlink()
        else:
            folder = _take(folder)
        with read_write(config):
            config.hydra.sweep.dir = str(folder)
            config.hydra.overrides.hydra.append(f"{SWEEP_DIR}{quote(str(folder))}")

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:  # noqa: ANN401
        """Let go of a job's settings, which Hydra would hold until a sweep of any length ends."""
        job_return.cfg = job_return.hydra_cfg = None

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401
        """Read every job's status file and say how the sweep went."""
        folder = Path(config.hydra.sweep.dir)
        files = _statuses(folder)
        jobs = [(file.parent.name, JobStatus(**json.loads(file.read_text()))) for file in files]
        if jobs:
            Console(width=None if sys.stdout.isatty() else WIDE).print(_table(jobs))
        failed = sum(job.exit != 0 for _, job in jobs)
        link_last(folder)
        if failed:
            _exit(f"{failed} of {len(jobs)} sweep jobs failed; their logs are in {folder}", 1)
        sys.stdout.write(f"sweep: {folder}\n")

    def _composed(self, config: DictConfig, mode: str) -> DictConfig:
        """Give Hydra's own settings, once its folder can be named and lies where paths mean."""
        if Frame.is_composing:
            del os.environ[FULL_ERROR]
            Frame.is_composing = False
        hydra = config.hydra
        try:
            OmegaConf.create({"output_dir": hydra[mode].dir})  # as Hydra will
        except OmegaConfBaseException as error:
            _exit(f"config: output_root, model.name: {str(error).splitlines()[0]}", 1)
        if hydra.job.chdir:
            _exit("config: hydra.job.chdir: paths are meant from where you are; leave it out", 1)
        return hydra


def _statuses(folder: Path) -> list[Path]:
    files = folder.glob(f"*/{STATUS}")
    return sorted(files, key=lambda file: (len(file.parent.name), file.parent.name))


def keep_status(folder: Path, status: JobStatus) -> None:
    """Write what became of a job into its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    record = status._replace(overrides=list(status.overrides))._asdict()
    write_json(folder / STATUS, record)


def _run_anew(task: Task) -> int:
    hydra = HydraConfig.get()
    command = [
        sys.executable,
        str(Path(hydra.runtime.cwd, inspect.getfile(inspect.unwrap(task)))),
        *hydra.overrides.task,
        f"{RUN_DIR}{quote(hydra.runtime.output_dir)}",
        "hydra.mode=RUN",
    ]
    return subprocess.run(command, check=False).returncode


def _run_here(task: Task, cfg: DictConfig) -> int:
    """Run one of a SLURM job's ranks; one that a signal stopped leaves no status."""
    try:
        _run(task, cfg)
    except SystemExit as ended:
        if ended.code not in (0, 1):
            raise
        return int(ended.code)
    return 0


def telling(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Say of each job's overrides those that not all jobs have.

    >>> telling([["seed=1", "sae.k=8"], ["seed=1", "sae.k=16"]])
    ['sae.k=8', 'sae.k=16']
    >>> telling([["seed=1"]])
    ['seed=1']
    """
    common = shared(jobs)
    return [" ".join(one for one in job if one not in common) or "(defaults)" for job in jobs]


def shared(jobs: Sequence[Sequence[str]]) -> list[str]:
    """List the overrides that all of several jobs have."""
    return [one for one in jobs[0] if all(one in job for job in jobs)] if len(jobs) > 1 else []


def _table(jobs: Sequence[tuple[str, JobStatus]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("job", "status", "time"):
        table.add_column(name, no_wrap=True)
    table.add_column("settings", overflow="fold")
    settings = telling([job.overrides for _, job in jobs])
    for (name, job), words in zip(jobs, settings, strict=True):
        state = "done" if job.exit == 0 else f"FAILED ({job.exit})"
        seconds = "-" if job.seconds is None else f"{job.seconds:.0f} s"
        table.add_row(name, state, seconds, Text(words))
    return table


def _make(folder: Path, *, anew: bool = False) -> None:
    """Make a folder, on a disk that can take a run's files.

    Raises:
        FileExistsError: It is there, and only a new one would do.
    """
    try:
        folder.mkdir(parents=True, exist_ok=not anew)
    except OSError as error:
        if anew and folder.is_dir():
            raise
        _exit(f"config: output_root: {folder} cannot be made ({error.strerror})", 1)
    if shutil.disk_usage(folder).free < RUN_BYTES:
        folder.rmdir()
        _exit(_full(folder), 1)


def _take(folder: Path) -> Path:
    """Make a folder that is nobody else's: of those who ask at once for one name each gets its own.

    Making a folder is atomic, also on a disk that machines share.
    """
    for number in itertools.count(1):
        mine = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        with suppress(FileExistsError):
            _make(mine, anew=True)
            return mine
    raise AssertionError("unreachable")


def fail(message: str) -> NoReturn:
    """End with one line and status 1."""
    _exit(message, 1)


def _exit(message: str, status: int) -> NoReturn:
    """Say why on stderr, and in the run's log where there is one."""
    sys.stderr.write(message + "\n")
    record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, message, None, None)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)
    raise SystemExit(status)
