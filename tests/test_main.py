"""`ghosttrack list` and `clean`; `ask` and `check` are tested with what they do."""

import os
import subprocess
import sys
from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from ghosttrack.__main__ import main
from ghosttrack.artifacts import Artifact, Key, build
from ghosttrack.command import seed
from ghosttrack.config import ExtractProgram
from ghosttrack.errors import DataError
from ghosttrack.inventory import find, in_use, left_overs, show, sweep_out
from ghosttrack.launch import with_settings
from tests.support.commands import ROOT
from tests.support.settings import composed


def made(root: Path, kind: str, *made_from: str) -> Artifact:
    def write(folder: Path) -> None:
        (folder / "data.txt").write_text("some")

    return build(Key(root / "tiny", kind, "x", {"kind": kind, "from": list(made_from)}), write)


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A bank that a run links to, what it was made from, and answers that nothing uses."""
    store = made(tmp_path, "activations")
    bank = made(tmp_path, "saes", store.id)
    made(tmp_path, "answers")
    links = tmp_path / "tiny" / "runs" / "train" / "noon" / "artifacts"
    links.mkdir(parents=True)
    (links / "saes-x").symlink_to(bank.path)
    return tmp_path


def test_what_an_artefact_was_made_from_is_told(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show(outputs)
    lines = capsys.readouterr().out.splitlines()
    (bank,) = (line.split() for line in lines if line.startswith("saes"))
    (store,) = (one for one in find(outputs) if one.artifact.manifest["kind"] == "activations")
    assert bank[-1] == f"activations/{store.folder.name}"
    assert bank[1:3] == ["4", "B"]
    assert lines[-1].startswith("3 artefacts")


@pytest.mark.parametrize("place", ["", "tiny"])
def test_what_runs_use_and_what_that_was_made_from_is_used(outputs: Path, place: str) -> None:
    entries = find(outputs / place)
    used = in_use(outputs / place, entries)
    assert {one.parent.name for one in used} == {"activations", "saes"}


def test_outputs_that_were_moved_are_used_as_before(outputs: Path, tmp_path: Path) -> None:
    link = next(outputs.rglob("runs/*/*/artifacts/*"))
    bank = link.resolve()
    link.rename(link.with_name(f"{bank.parent.name}-{bank.name}"))  # as a run names it
    moved = outputs.rename(tmp_path.with_name(f"{tmp_path.name}-moved"))
    used = in_use(moved, find(moved))
    assert {one.parent.name for one in used} == {"activations", "saes"}


def test_a_manifest_in_which_a_byte_flipped_is_left_out(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = outputs.glob("tiny/answers/*/manifest.json")
    file.write_text(file.read_text().replace('"created": "2', '"created": "x'))
    show(outputs)
    said = capsys.readouterr()
    assert said.out.splitlines()[-1].startswith("2 artefacts")
    assert said.err.startswith(f"left out: {file}")


def test_only_yes_deletes_and_only_what_nothing_uses(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = outputs / "tiny" / "answers"
    (answers / ".y-0123.partial").mkdir()
    before = sorted(outputs.rglob("*"))
    sweep_out(outputs, delete=False)
    assert "--yes deletes them" in capsys.readouterr().out
    assert sorted(outputs.rglob("*")) == before
    sweep_out(outputs, delete=True)
    assert [one.name for one in answers.iterdir() if one.is_dir()] == []
    assert {one.artifact.manifest["kind"] for one in find(outputs)} == {"activations", "saes"}
    sweep_out(outputs, delete=True)
    assert "every artefact is used" in capsys.readouterr().out


def test_nothing_is_deleted_of_a_model_that_a_program_is_at_work_with(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(_: ExtractProgram) -> None:
        for delete in (False, True):
            sweep_out(outputs, delete=delete)

    cfg = composed("extract", f"output_root={outputs}", "model.name=tiny")
    with_settings(ExtractProgram, work)(cfg)
    assert {one.parent.name for one in (outputs / "tiny").glob("*/x-*")} == {
        *("activations", "saes", "answers"),
    }
    line = f"{outputs}/tiny: a program is at work there; its artefacts are left alone"
    assert capsys.readouterr().out.count(line) == 2
    sweep_out(outputs, delete=True)
    assert not list((outputs / "tiny").glob("answers/x-*"))


def test_a_deletion_that_was_cut_short_is_gone_on_with(outputs: Path) -> None:
    (answers,) = (one.folder for one in find(outputs) if one.folder.parent.name == "answers")
    doomed = answers.with_name(f".deleted-{answers.name}")
    answers.rename(doomed)
    assert {one.folder.parent.name for one in find(outputs)} == {"activations", "saes"}
    assert left_overs(outputs) == [doomed]


def test_where_nothing_is_the_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no artefact"):
        find(tmp_path)
    with pytest.raises(DataError, match="nowhere: no such folder"):
        find(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ask",), "ask: no prompt; give one in quotes, or --file prompts.jsonl"),
        (("ask", " "), "ask: the prompt is empty; give a text that the model is to go on with"),
        (("list", "nowhere"), "nowhere: no such folder; give the one that programs write to"),
    ],
)
def test_a_mistake_is_what_it_exits_with(
    words: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["ghosttrack", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ask", "a=b", "+sae.kk=3"), "config: sae.kk is not a setting; did you mean sae.k?"),
        (
            ("ask", "hi", "--prevalence", "0.1", "estimate=true"),
            "config: estimate=true says nothing of ask; drop it",
        ),
        (("check", ".", "estimate=true"), "config: estimate=true says nothing of check; drop it"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "ghosttrack", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr.strip()) == (1, message)


@pytest.mark.parametrize("typed", ["-1", str(2**31)])
def test_a_seed_that_no_library_takes_is_refused_to_every_program(typed: str) -> None:
    with pytest.raises(ArgumentTypeError, match=r"^must be in 0..2147483647, got"):
        seed(typed)
