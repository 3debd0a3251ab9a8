"""Programs that read what others wrote, given what they cannot read."""

import io
import re
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

from ghosttrack import __main__ as console
from ghosttrack.command import run, say

TO = ("--to", "out")
OUT = ("--out", "out")
PROGRAMS = {
    **dict.fromkeys(("latents", "persistence", "positions", "predict_errors"), OUT),
    **dict.fromkeys(("cases", "export"), TO),
    **{"transfer": ("elsewhere", *OUT), "migrate": ("--output-root", "out")},
}
"""Of analysis, and what each wants beside the place it reads."""
SWEEPS = ("collect", "compare_models", "dashboard", "heatmaps", "sweet_spot")
WRONG = ("nowhere", "empty", "texts", "junk.txt", "random.parquet", "empty.csv", "other")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("places")
    for name in ("empty", "texts", "other"):
        (folder / name).mkdir()
    (folder / "texts" / "notes.md").write_text("hi")
    (folder / "other" / "manifest.json").write_text("{}")
    (folder / "junk.txt").write_text("this is junk\n")
    (folder / "random.parquet").write_bytes(bytes(range(255, 0, -1)) * 9)
    (folder / "empty.csv").touch()
    return folder


@pytest.mark.parametrize("place", WRONG)
@pytest.mark.parametrize("program", [*PROGRAMS, *SWEEPS, "audit", "list", "clean"])
def test_a_wrong_place_is_named_in_one_line(
    program: str, place: str, places: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(places)
    monkeypatch.setattr("sys.argv", ["ghosttrack", program, place])
    before = sorted(places.rglob("*"))
    call = console.main
    if program in PROGRAMS:
        main = import_module(f"ghosttrack.analysis.{program}").main
        call = partial(main, [place, *PROGRAMS[program]])
    elif program in SWEEPS:
        call = partial(import_module(f"sweep.{program}").main, [place])
    with pytest.raises(SystemExit) as ended:
        call()
    said = str(ended.value.code)
    assert said.startswith(place)
    assert "\n" not in said
    assert place == "other" or not re.search(r"\wError", said), "those are our words"
    assert sorted(places.rglob("*")) == before


def test_a_terminal_that_is_not_utf_8_gets_escapes(monkeypatch: pytest.MonkeyPatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr("sys.stdout", terminal)
    run(lambda: say("Zürich – 苏黎世"))
    written = terminal.buffer.getvalue()
    assert written == b"Z\xfcrich \\u2013 \\u82cf\\u9ece\\u4e16\n"


def test_a_closed_output_hears_nothing_and_ends_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdout", None)
    run(lambda: say("said"))


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (PermissionError(13, "Permission denied", "locked"), "locked: cannot be read or written"),
        (KeyboardInterrupt(), "130"),
        (BrokenPipeError(), "0"),
    ],
)
def test_what_a_disk_a_hand_or_a_pipe_ends_is_no_traceback(
    fault: BaseException, code: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ghosttrack.command.mute", lambda: None)

    def task() -> None:
        raise fault

    with pytest.raises(SystemExit) as ended:
        run(task)
    assert str(ended.value.code).startswith(code)
