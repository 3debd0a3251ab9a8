"""The three programs as a user types them, on a tiny model with random weights."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.torch import load_file
from torch import Tensor

from ghosttrack.files import read_json

ROOT = Path(__file__).parents[2]
PATIENCE_S = 240.0
"""A process that needs longer hangs; an idle machine needs a tenth."""
DDP = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
PEOPLE = (
    *("anna", "bert", "carla", "david", "elsa", "frank"),
    *("greta", "hugo", "iris", "jonas", "karin", "leo"),
)
PLACES = (
    *("paris", "rome", "berlin", "london", "madrid", "vienna"),
    *("oslo", "prague", "france", "italy", "germany", "spain"),
)
VERBS = ("lives in", "works for", "was born in", "speaks", "plays", "has made", "is in", "is not")
ENDS = (
    *("the big house", "the red piano", "a new company"),
    *("old french", "the blue river", "a small city"),
)

FORKS = """
import gc, json, os, runpy, sys
sys.argv = ["train.py"]  # as a program imports them
import ghosttrack.pipelines.check, ghosttrack.pipelines.detectors, ghosttrack.pipelines.tracks

gc.collect()
gc.freeze()  # what is never free needs no looking through, and no copy in each fork

def start(arguments, *streams):
    child = os.fork()
    if child == 0:
        os.setsid()
        for number, path in enumerate(streams, start=1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = arguments
        status = 0
        try:
            runpy.run_path(arguments[0], run_name="__main__")
        except SystemExit as ended:
            status = ended.code or 0
            if isinstance(status, str):
                sys.stderr.write(status + "\\n")
                status = 1
        except BaseException:
            sys.excepthook(*sys.exc_info())
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return child

for line in sys.stdin:
    children = [start(*one) for one in json.loads(line)]
    print(*children, flush=True)
    print(*(os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in children), flush=True)
"""


class Forks:
    """Runs programs as forks of a process that has imported all that they need.

    A program that is started anew spends most of its time on its imports.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", FORKS],
            cwd=folder,
            env={**environment, "PYTHONPATH": str(ROOT)},  # not a tree installed elsewhere
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        arguments: Sequence[str],
        when: Callable[[], bool] | None = None,
        how: signal.Signals = signal.SIGKILL,
    ) -> subprocess.CompletedProcess[str]:
        """Run a script to its end; with `when`, send it a signal as soon as that holds."""
        child, *_ = self._start([arguments])
        deadline = time.monotonic() + PATIENCE_S
        while when is not None:
            if when():
                with suppress(ProcessLookupError):  # it has ended by itself
                    os.kill(child, how)
                break
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.001)
        (ended,) = self._end([arguments])
        return ended

    def together(self, commands: Sequence[Sequence[str]]) -> list[subprocess.CompletedProcess[str]]:
        """Run scripts side by side to their ends."""
        self._start(commands)
        return self._end(commands)

    def _streams(self, n: int) -> list[list[Path]]:
        return [[self.folder / f"{name}{at}.txt" for name in ("out", "err")] for at in range(n)]

    def _start(self, commands: Sequence[Sequence[str]]) -> list[int]:
        asked = []
        for arguments, streams in zip(commands, self._streams(len(commands)), strict=True):
            for stream in streams:
                stream.write_text("")
            asked.append([arguments, *map(str, streams)])
        assert self.process.stdin is not None
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        return self._numbers()

    def _end(self, commands: Sequence[Sequence[str]]) -> list[subprocess.CompletedProcess[str]]:
        streams = self._streams(len(commands))
        return [
            subprocess.CompletedProcess(arguments, status, *(one.read_text() for one in said))
            for arguments, status, said in zip(commands, self._numbers(), streams, strict=True)
        ]

    def _numbers(self) -> list[int]:
        assert self.process.stdout is not None
        return list(map(int, self.process.stdout.readline().split()))

    def close(self) -> None:
        """End the process."""
        self.process.communicate(timeout=PATIENCE_S)


def write_corpus(path: Path, n_documents: int = 1500) -> Path:
    """Write sentences of the tiny tokenizer's words, of varying length."""
    draw = np.random.default_rng(0)
    lines = []
    for _ in range(n_documents):
        clauses = [
            f"{draw.choice(PEOPLE + PLACES)} {draw.choice(VERBS)} {draw.choice(ENDS)}"
            for _ in range(draw.integers(1, 5))
        ]
        lines.append(" and ".join(clauses) + " .")
    path.write_text("\n".join(lines) + "\n")
    return path


def environment(home: Path) -> dict[str, str]:
    """One thread per process, one worker, no network, no account."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("WANDB", "HF_", "PL_")) and name != "HYDRA_FULL_ERROR"
    }
    return inherited | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "LOKY_MAX_CPU_COUNT": "1",
        "HF_HUB_OFFLINE": "1",
        "HOME": str(home),
    }


def execute(command: Sequence[str], home: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, without a terminal to ask on."""
    return subprocess.run(
        command,
        cwd=home,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


class Workplace(NamedTuple):
    """A model folder, a corpus and questions, and an empty home."""

    model: Path
    corpus: Path
    questions: Path
    home: Path
    forks: Forks

    def settings(self, output: Path, program: str) -> list[str]:
        """What every run shares: small, but with several shards, batches and checkpoints."""
        settings = [
            *(f"model.path={self.model}", "model.name=tiny", "model.context=48"),
            "model.prepend_bos=true",
            *("corpus=text", f"corpus.path={self.corpus}", f"output_root={output}"),
            *("corpus.num_tokens=16384", "corpus.heldout_tokens=2048"),
            *("store.shard_tokens=1024", "extract.batch_size=8"),
        ]
        if program != "extract":
            settings += [
                *("sae.d_sae=64", "sae.k=8", "sae.batch_size=256", "logger=csv"),
                *("trainer.max_steps=80", "train.checkpoint_every=1"),
            ]
        if program == "detect":
            settings += ["questions=file", f"questions.path={self.questions}"]
            settings += ["questions.max_new_tokens=3", "evaluation.n_folds=2"]
            settings += ["evaluation.n_bootstrap=50", "detector.nulls=[shuffled]"]
            settings += ["interventions=quick", "asking=plain"]
        return settings

    def command(self, output: Path, program: str, *more: str) -> list[str]:
        """The command line; later settings win."""
        words = [*self.settings(output, program), *more]
        if "corpus=activations" in more:
            words = [
                word
                for word in words
                if not word.startswith(("corpus.num_", "corpus.held")) or word in more
            ]
        flags = [word for word in words if word.startswith("-")]
        last = {word.split("=")[0]: word for word in words if word not in flags}
        return [sys.executable, str(ROOT / f"{program}.py"), *flags, *last.values()]

    def run(self, output: Path, program: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run as a process of its own."""
        return execute(self.command(output, program, *more), self.home)

    def fork(
        self,
        output: Path,
        program: str,
        *more: str,
        when: Callable[[], bool] | None = None,
        how: signal.Signals = signal.SIGKILL,
    ) -> subprocess.CompletedProcess[str]:
        """Run as a fork of a process with warm imports; see `Forks.run`."""
        return self.forks.run(self.command(output, program, *more)[1:], when, how)

    def console(
        self,
        output: Path,
        command: str,
        *words: str,
        when: Callable[[], bool] | None = None,
        how: signal.Signals = signal.SIGKILL,
    ) -> subprocess.CompletedProcess[str]:
        """Run `ghosttrack ask` or `check` with the settings that every run shares."""
        settings = self.settings(output, {"ask": "detect", "check": "train"}[command])
        named = {word.split("=")[0] for word in words}
        usual = [one for one in settings if one.split("=")[0] not in named]
        script = str(ROOT / "ghosttrack" / "__main__.py")
        return self.forks.run([script, command, *words, *usual], when, how)


def said(result: subprocess.CompletedProcess[str]) -> str:
    """What a program that succeeded said on both streams."""
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def artifacts(output: Path, kind: str) -> dict[str, Path]:
    """The complete artefacts of a kind, by folder name."""
    folders = (output / "tiny" / kind).glob("*/manifest.json")
    return {file.parent.name: file.parent for file in sorted(folders)}


def only(output: Path, kind: str) -> Path:
    """The one artefact of a kind."""
    (folder,) = artifacts(output, kind).values()
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file's bytes, less what tells when and where it was written."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "manifest.json"
    }


def weights(bank: Path) -> dict[str, Tensor]:
    """Every tensor of a bank's SAEs, by hook point and name."""
    return {
        f"{file.parent.name}/{name}": tensor
        for file in sorted(bank.glob("layer_*/sae_weights.safetensors"))
        for name, tensor in load_file(file).items()
    }


def measured(bank: Path) -> list[dict[str, float]]:
    """What a bank says of each of its SAEs."""
    return read_json(bank / "metrics.json")["hooks"]


def resume_step(output: Path) -> int:
    """The step of the newest resume point; 0 where there is none."""
    for link in output.glob("tiny/saes/.*.partial/checkpoints/last"):
        return int(link.readlink().name.split("-")[1])
    return 0


def times(output: Path, kind: str) -> dict[Path, int]:
    """When each file of a kind's artefacts was last written."""
    return {
        file: file.stat().st_mtime_ns
        for folder in artifacts(output, kind).values()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
