"""Programs that are killed at any instant, and run again until they are done.

`KILLS=50 python -m pytest --long tests/test_kills.py -s` kills each program that often, 50 times by
default, and prints how many kills each survived.
"""

import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import NamedTuple

import pytest

from ghosttrack.artifacts import KINDS
from ghosttrack.inventory import left_overs
from tests.support.commands import Workplace, artifacts, contents, said

pytestmark = [pytest.mark.slow, pytest.mark.timeout(14_400)]

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
LONG_KILLS = int(os.environ.get("KILLS", "50"))
SMALL = (
    *("corpus.num_tokens=4096", "corpus.heldout_tokens=1024", "trainer.max_steps=16"),
    *(
        "interventions=none",
        "evaluation.n_bootstrap=20",
        "evaluation.compare=[output,tracks+output]",
    ),
)
QUESTION = "where was anna born?"
TELLS_WHEN = {"report.html", ".checksums"}
"""Files that hold seconds."""

SWALLOWED = r"Exception ignored (?:in|on).*?KeyboardInterrupt: ?\n"
"""A Ctrl-C that met Python in a callback of its own, which goes on."""

BOTH = ("detect", "ask")
"""Programs that together leave all there is."""

Attempt = Callable[[Path, Callable[[], bool] | None, signal.Signals], CompletedProcess[str]]


class Undisturbed(NamedTuple):
    """What no kill came near: where it lies, and how long each program takes after those before."""

    output: Path
    seconds: dict[str, float]


def attempts(workplace: Workplace) -> dict[str, Attempt]:
    """How each program is run, in the order in which one builds on the others."""

    def program(name: str) -> Attempt:
        own = [one for one in SMALL if name == "detect" or one.startswith(("corpus", "trainer"))]
        own = [one for one in own if name != "extract" or one.startswith("corpus")]
        return lambda output, when, how: workplace.fork(output, name, *own, when=when, how=how)

    def ask(output: Path, when: Callable[[], bool] | None, how: signal.Signals):
        return workplace.console(output, "ask", QUESTION, *SMALL, when=when, how=how)

    return {**{name: program(name) for name in ("extract", "train", "detect")}, "ask": ask}


@pytest.fixture(scope="module")
def undisturbed(workplace: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    output, seconds = tmp_path_factory.mktemp("undisturbed"), dict[str, float]()
    runs = attempts(workplace)
    said(runs["extract"](tmp_path_factory.mktemp("warm"), None, signal.SIGKILL))  # imports
    for name, run in runs.items():
        began = time.monotonic()
        said(run(output, None, signal.SIGKILL))
        seconds[name] = time.monotonic() - began
    return Undisturbed(output, seconds)


def kill(run: Attempt, output: Path, delay: float, how: signal.Signals) -> bool:
    """Send a signal after a delay; tell whether the program ended by it and not by itself."""
    at = time.monotonic() + delay
    ended = run(output, lambda: time.monotonic() >= at, how)
    said = re.sub(SWALLOWED, "", ended.stderr, flags=re.DOTALL)
    assert "Traceback" not in said, said
    assert ended.returncode in (0, -how, 128 + how), (ended.returncode, ended.stderr)
    return ended.returncode != 0


def whole(output: Path) -> dict[str, dict[str, bytes]]:
    """Every artefact's files, and the newest answer to the prompt, if it was asked."""
    found = {
        f"{kind}/{name}": contents(folder)
        for kind in KINDS
        for name, folder in artifacts(output, kind).items()
    }
    for answered in sorted((output / "tiny" / "runs" / "ask").glob("2*/answers.csv")):
        found["ask"] = {answered.name: answered.read_bytes()}
    return {
        name: {file: held for file, held in files.items() if Path(file).name not in TELLS_WHEN}
        for name, files in found.items()
    }


def disturb(
    workplace: Workplace, undisturbed: Undisturbed, output: Path, n: dict[str, int], seed: int
) -> dict[str, int]:
    """Kill each program so often, then let it end; return how many of the kills met it running."""
    draw, met = random.Random(seed), dict.fromkeys(n, 0)
    for name, run in attempts(workplace).items():
        for number in range(n[name]):
            share = (number + draw.random()) / n[name]
            how = SIGNALS[(number + seed) % len(SIGNALS)]
            met[name] += kill(run, output, share * undisturbed.seconds[name], how)
        if name in BOTH:
            said(run(output, None, signal.SIGKILL))
    assert whole(output).keys() == whole(undisturbed.output).keys()
    check(output, undisturbed)
    return met


def check(output: Path, undisturbed: Undisturbed) -> None:
    """Hold what is there against an undisturbed run's, and look for what was left over."""
    ours, theirs = whole(output), whole(undisturbed.output)
    assert "saes" in {name.partition("/")[0] for name in ours}
    for name in ours:
        assert ours[name].keys() == theirs[name].keys(), name
        differ = [file for file in theirs[name] if ours[name][file] != theirs[name][file]]
        assert not differ, (name, differ)
    assert left_overs(output) == []
    hidden = [one for kind in KINDS for one in (output / "tiny" / kind).glob(".*")]
    assert [one for one in hidden if one.suffix != ".lock"] == []


def test_every_program_survives_three_kills(
    workplace: Workplace, undisturbed: Undisturbed, tmp_path: Path
):
    met = disturb(workplace, undisturbed, tmp_path, dict.fromkeys(undisturbed.seconds, 3), 0)
    assert sum(met.values()) >= 4  # a kill that comes late meets nobody


@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("train", 2),
        *(
            pytest.param(name, n, marks=pytest.mark.long)
            for name in ("train", "detect")
            for n in (2, 4)
        ),
    ],
)
def test_whole_programs_at_once_leave_what_one_leaves(
    workplace: Workplace, undisturbed: Undisturbed, tmp_path: Path, name: str, n: int
):
    own = [one for one in SMALL if name == "detect" or one.startswith(("corpus", "trainer"))]
    command = workplace.command(tmp_path, name, *own)[1:]
    assert [one.returncode for one in workplace.forks.together([command] * n)] == [0] * n
    assert len(list((tmp_path / "tiny" / "runs" / name).glob("2*"))) == n
    check(tmp_path, undisturbed)


@pytest.mark.long
def test_every_program_survives_any_kill(
    workplace: Workplace, undisturbed: Undisturbed, tmp_path: Path
):
    met, seed = dict.fromkeys(undisturbed.seconds, 0), 0
    while min(met.values()) < LONG_KILLS:
        seed += 1
        n = {name: 5 * (done < LONG_KILLS) for name, done in met.items()}
        for name, more in disturb(workplace, undisturbed, tmp_path / f"{seed}", n, seed).items():
            met[name] += more
        sys.stdout.write(f"survived, {seed} rounds: {met}\n")
