import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from ghosttrack import launch
from ghosttrack.files import link_last
from ghosttrack.launch import _take, as_typed
from ghosttrack.typed import literal, quote
from tests.support.commands import ROOT
from tests.support.settings import PROGRAMS

PROGRAM = """
import os
import hydra
from ghosttrack.errors import ConfigError, DataError
from ghosttrack.launch import framed

@hydra.main(version_base="1.3", config_path=None)
@framed
def main(cfg):
    print(f"pid {os.getpid()} x {cfg.get('x')!r}")
    if cfg.get("x") == 13:
        raise ConfigError("x must not be 13")
    if cfg.get("x") == 14:
        raise DataError("some/file: is missing")
    if cfg.get("x") == 16:
        raise OSError(28, "No space left on device", "outputs/a")
    if cfg.get("x") == 15:
        raise KeyboardInterrupt

if __name__ == "__main__":
    main()
"""

FRAME = "+hydra.callbacks.frame._target_=ghosttrack.launch.Frame"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text(PROGRAM)
    return path


def run(script: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), *overrides],
        cwd=script.parent,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("x", "status", "line"),
    [
        (13, 1, "config: x must not be 13"),
        (14, 1, "some/file: is missing"),
        (
            16,
            1,
            "output_root: the disk of outputs/a is full; free some, and the same command goes on"
            " from the last complete point",
        ),
        (15, 130, "interrupted: the same command goes on from the last complete point"),
    ],
)
def test_a_fault_is_one_line_and_a_status(script: Path, x: int, status: int, line: str) -> None:
    result = run(script, f"+x={x}")
    assert result.returncode == status
    assert result.stderr == line + "\n"
    (log,) = script.parent.rglob("app.log")
    assert log.read_text().count(line) == 1


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["detector.p_true=x"], "detector.p_true is asking.p_true now"),
        (["-m", "+detector.seed=0,1"], "detector.seed is evaluation.seed now"),
    ],
)
def test_an_old_name_is_answered_with_the_new_one(
    arguments: list[str],
    answer: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["detect.py", *arguments])
    with pytest.raises(SystemExit):
        as_typed(pytest.fail)()
    assert capsys.readouterr().err == f"config: {answer}\n"


def test_an_interrupt_while_settings_are_read_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(arguments: list[str]) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "literal", interrupted)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit) as ended:
        as_typed(lambda: None)()
    assert ended.value.code == 130
    assert capsys.readouterr().err == f"{launch.INTERRUPTED}\n"


CTRL_C = """
import runpy, sys
class Finder:
    def find_spec(name, *_):
        if name.partition(".")[0] not in ("ghosttrack", "sweep", *sys.stdlib_module_names):
            raise KeyboardInterrupt  # where the first library's import would begin
sys.meta_path.insert(0, Finder)
first, name = sys.argv = sys.argv[1:]
run = runpy.run_module if first == "-m" else runpy.run_path
run(name if first == "-m" else first, run_name="__main__")
"""


@pytest.mark.parametrize(
    "named",
    [
        *(f"{name}.py x" for name in PROGRAMS),
        *("-m ghosttrack", "-m ghosttrack.analysis.cases", "-m sweep.collect"),
    ],
)
def test_a_ctrl_c_in_a_programs_first_imports_is_one_line(named: str) -> None:
    command = [sys.executable, "-c", CTRL_C, *named.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize(
    ("settings", "answer"),
    [
        ({"run": {"dir": "${nothing}/x"}}, "output_root, model.name: Interpolation key 'nothing'"),
        ({"run": {"dir": "a\\${b"}}, "output_root, model.name: no viable alternative"),
        (
            {"run": {"dir": "x"}, "job": {"chdir": True}},
            "hydra.job.chdir: paths are meant from where you are; leave it out",
        ),
    ],
)
def test_a_folder_that_cannot_be_named_is_refused_before_it_is_made(
    settings: dict[str, object], answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        launch.Frame().on_run_start(OmegaConf.create({"hydra": {"job": {}, **settings}}))
    assert capsys.readouterr().err.startswith(f"config: {answer}")


def test_what_hydra_stumbles_over_while_it_composes_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stumble() -> None:
        assert os.environ[launch.FULL_ERROR] == "1", "Hydra prints a traceback itself"
        raise TypeError("argument of type 'NoneType' is not iterable")

    monkeypatch.setattr(launch.Frame, "is_composing", False)
    monkeypatch.setenv(launch.FULL_ERROR, "0")
    monkeypatch.setattr(sys, "argv", ["train.py", "trainer=2"])
    with pytest.raises(SystemExit):
        as_typed(stumble)()
    line = "config: trainer=2: trainer is chosen by name; --help lists them\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(("rank", "folders"), [("0", ["outputs"]), ("1", [])])
def test_ranks_that_know_no_common_folder_leave_only_that_of_the_first(
    script: Path, monkeypatch: pytest.MonkeyPatch, rank: str, folders: list[str]
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("TMPDIR", str(script.parent))
    result = run(script, FRAME)
    assert result.returncode == 0, result.stderr
    assert [one.name for one in script.parent.iterdir() if one != script] == folders


@pytest.mark.parametrize("launcher", [(), ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")])
def test_each_sweep_job_has_a_process_and_a_failing_one_stops_no_other(
    script: Path, launcher: tuple[str, ...]
) -> None:
    result = run(script, "-m", "+x=1,13,'a b'", "hydra.sweep.dir=sweep", *launcher, FRAME)
    assert result.returncode == 1
    assert "1 of 3 sweep jobs failed" in result.stderr
    told = [line.split() for line in result.stdout.splitlines()[-3:]]
    assert [line[:2] for line in told] == [["0", "done"], ["1", "FAILED"], ["2", "done"]]
    lines = [line for line in result.stdout.splitlines() if line.startswith("pid")]
    assert {line.split(" x ")[1] for line in lines} == {"1", "13", "'a b'"}
    assert len({line.split()[1] for line in lines}) == 3
    jobs = [json.loads((script.parent / f"sweep/{n}/status.json").read_text()) for n in range(3)]
    assert [job["exit"] for job in jobs] == [0, 1, 0]
    assert jobs[0]["overrides"] == ["+x=1"]


def test_an_output_folder_that_cannot_be_made_is_one_line(script: Path) -> None:
    result = run(script, "hydra.run.dir=/proc/nowhere", FRAME)
    assert result.returncode == 1
    assert result.stderr.startswith("config: output_root: /proc/nowhere cannot be made (")
    assert result.stderr.count("\n") == 1


def test_a_sweep_without_failures_succeeds(script: Path) -> None:
    result = run(script, "-m", "+x=1,2", "hydra.sweep.dir=sweep", FRAME)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "sweep: sweep"


def test_a_launcher_of_sweeps_is_refused_to_a_single_run(script: Path) -> None:
    result = run(script, "hydra/launcher=joblib", FRAME)
    assert result.returncode == 1
    assert result.stderr == "config: hydra/launcher=joblib starts the jobs of a sweep; add -m\n"


def test_jobs_of_several_models_share_the_sweeps_folder(script: Path) -> None:
    script.with_name("named.yaml").write_text("x: 0\n")
    named = PROGRAM.replace("config_path=None", 'config_path=".", config_name="named"')
    script.write_text(named)
    result = run(script, "-m", "x=1,13", "hydra.sweep.dir=of-${x}", FRAME)
    assert sorted(script.parent.glob("of-*/*/status.json")) == [
        script.parent / f"of-0/{number}/status.json" for number in range(2)
    ]
    assert [line.split()[:2] for line in result.stdout.splitlines()[-2:]] == [
        ["0", "done"],
        ["1", "FAILED"],
    ]
    assert result.stderr.splitlines()[-1] == "1 of 2 sweep jobs failed; their logs are in of-0"


@given(st.text(alphabet="ab\\'\"${}[](),=: \n\t?%#&@+-é~", max_size=14))
@example("Who's \"there\", said O'Neil\\?")
@example("${oc.env:HOME} {a: [1, 2]} \\${x} \\\\")
@example("null")
def test_any_text_goes_through_hydra_as_it_is(text: str) -> None:
    parsed = OverridesParser.create().parse_override(f"folder={quote(text)}")
    assert OmegaConf.create({"folder": parsed.value()}).folder == text


def test_runs_that_ask_for_one_folder_at_once_get_one_each(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(_take, [tmp_path / "noon"] * 8))
    assert len(set(taken)) == 8
    assert {one.name for one in taken} == {"noon", *(f"noon-{n}" for n in range(2, 9))}


def test_the_link_to_the_last_run_moves_on(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        link_last(tmp_path / name)
        assert (tmp_path / "last").resolve() == tmp_path / name
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "b", "last"]


TEXTS = st.text(alphabet="ab1~=#[](){}'\"\\,: $.%/e-", min_size=1, max_size=12)


@given(TEXTS)
@example("/tmp/epoch=3-step=10")
@example("~/my saes (v2)")
@example("Q: {question}\\nA:")
@example("1e3")
@example("a,b # [c]")
def test_a_setting_that_takes_a_text_takes_it_as_it_is_typed(text: str) -> None:
    (argument,) = literal([f"asking.template={text}"])
    read = OverridesParser.create().parse_override(argument).value()
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    if not quoted and "${" not in text and "\\" not in text and text.strip() == text:
        assert read is None if text.lower() == "null" else read == text


def test_of_a_sweep_lists_stay_lists_and_texts_texts(tmp_path: Path) -> None:
    there = tmp_path / "a,b.txt"
    there.touch()
    typed = [
        "-m",
        "model.path=a,b",
        f"corpus.path={there}",
        "asking.template=Q, {question}=",
        "x=1",
    ]
    assert literal(typed) == [
        *("-m", "model.path=a,b", f"corpus.path='{there}'"),
        *("asking.template='Q, {question}='", "x=1"),
    ]


def test_a_full_disk_is_one_line_and_no_folder_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch.shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(SystemExit):
        _take(tmp_path / "noon")
    assert capsys.readouterr().err == (
        f"output_root: the disk of {tmp_path}/noon is full; free some, and the same command goes on"
        " from the last complete point\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_sweep_does_not_hold_the_settings_of_jobs_that_are_done():
    ended = JobReturn(overrides=["seed=1"], cfg=DictConfig({}), hydra_cfg=DictConfig({}))
    launch.Frame().on_job_end(DictConfig({}), job_return=ended)
    assert (ended.cfg, ended.hydra_cfg, ended.overrides) == (None, None, ["seed=1"])
