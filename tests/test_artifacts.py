import multiprocessing
import os
from pathlib import Path

import pytest

from ghosttrack.artifacts import Key, artifact_id, build, read
from ghosttrack.errors import DataError
from ghosttrack.files import write_json

IDENTITY: dict[str, object] = {"model": "m", "k": 16}


def key_of(root: Path, identity: dict[str, object] = IDENTITY) -> Key:
    return Key(root, "saes", "topk", identity)


def write_one(folder: Path) -> None:
    (folder / "numbers.txt").write_text("1 2 3")


def test_the_same_identity_is_built_once(tmp_path: Path) -> None:
    calls: list[Path] = []

    def write(folder: Path) -> None:
        calls.append(folder)
        write_one(folder)

    first = build(key_of(tmp_path), write)
    second = build(key_of(tmp_path, dict(reversed(IDENTITY.items()))), write)
    assert len(calls) == 1
    assert first.built
    assert not second.built
    assert first.path == second.path
    assert first.path.name == f"topk-{artifact_id(IDENTITY)}"


def test_another_setting_gives_another_folder(tmp_path: Path) -> None:
    first = build(key_of(tmp_path), write_one)
    second = build(key_of(tmp_path, {**IDENTITY, "k": 32}), write_one)
    assert first.path != second.path


def test_a_failed_build_leaves_no_artefact_but_keeps_its_partial_files(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        build(key_of(tmp_path), fail)
    assert not [item for item in (tmp_path / "saes").iterdir() if not item.name.startswith(".")]

    def resume(folder: Path) -> None:
        assert (folder / "half.txt").read_text() == "half"
        write_one(folder)

    assert build(key_of(tmp_path), resume).built


@pytest.mark.parametrize("left", ["manifest.json", ".manifest.json.tmp", "block-0/.rows.json.tmp"])
def test_what_a_kill_leaves_of_a_commit_is_no_part_of_the_artefact(
    tmp_path: Path, left: str
) -> None:
    def write(folder: Path) -> None:
        write_one(folder)
        (folder / left).parent.mkdir(exist_ok=True)
        (folder / left).write_text("half")

    built = build(key_of(tmp_path), write)
    assert list(built.manifest["files"]) == ["numbers.txt"]
    assert read(built.path).id == built.id
    assert {file.name for file in built.path.rglob("*.*")} == {"manifest.json", "numbers.txt"}


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = build(key_of(tmp_path), write_one).path
    (path / "numbers.txt").write_text("1 2")
    with pytest.raises(DataError, match=r"numbers\.txt: has 3 bytes, its manifest says 5"):
        read(path)


def test_a_changed_byte_is_found_when_asked_for(tmp_path: Path) -> None:
    path = build(key_of(tmp_path), write_one).path
    (path / "numbers.txt").write_text("1 2 4")
    read(path)
    with pytest.raises(DataError, match=r"numbers\.txt: SHA-256"):
        read(path, verify=True)


def test_another_kind_is_refused(tmp_path: Path) -> None:
    path = build(key_of(tmp_path), write_one).path
    with pytest.raises(DataError, match="is of kind 'saes', expected 'tracks'"):
        read(path, "tracks")


def test_an_edited_identity_is_refused(tmp_path: Path) -> None:
    artifact = build(key_of(tmp_path), write_one)
    write_json(
        artifact.path / "manifest.json", {**artifact.manifest, "identity": {**IDENTITY, "k": 99}}
    )
    with pytest.raises(DataError, match="does not match its identity"):
        read(artifact.path)


def _die_holding_the_lock(root: Path) -> None:
    build(key_of(root), lambda _: os._exit(9))


def test_a_dead_owners_lock_is_taken_over(tmp_path: Path) -> None:
    worker = multiprocessing.get_context("fork").Process(
        target=_die_holding_the_lock, args=(tmp_path,)
    )
    worker.start()
    worker.join()
    assert worker.exitcode == 9
    assert build(key_of(tmp_path), write_one).built


def test_a_kill_after_the_last_rename_leaves_no_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda *names: (rename(*names), os._exit(9)))
    worker = multiprocessing.get_context("fork").Process(
        target=build, args=(key_of(tmp_path), write_one)
    )
    worker.start()
    worker.join()
    assert worker.exitcode == 9
    built = build(key_of(tmp_path), write_one)
    assert not built.built
    assert list(built.path.parent.glob(".*.owner")) == []
