from pathlib import Path

from ghosttrack.files import hash_path


def test_content_decides_a_hash_and_location_does_not(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.txt").write_text("same")
    assert hash_path(tmp_path / "a") == hash_path(tmp_path / "b")
    (tmp_path / "b" / "x.txt").write_text("other")
    assert hash_path(tmp_path / "a") != hash_path(tmp_path / "b")
