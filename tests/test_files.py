import errno
from pathlib import Path

import pytest
from safetensors import SafetensorError

from ghosttrack.files import hash_path, telling_full


def test_content_decides_a_hash_and_location_does_not(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.txt").write_text("same")
    assert hash_path(tmp_path / "a") == hash_path(tmp_path / "b")
    (tmp_path / "b" / "x.txt").write_text("other")
    assert hash_path(tmp_path / "a") != hash_path(tmp_path / "b")


def write_to_a_full_disk(library: str) -> None:
    if library == "safetensors":
        raise SafetensorError("I/O error: No space left on device (os error 28)")
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    except OSError:
        raise RuntimeError("unexpected pos 4032 vs 3926")  # noqa: B904 - as torch does


@pytest.mark.parametrize("library", ["torch", "safetensors"])
def test_a_full_disk_is_told_whatever_a_library_makes_of_it(tmp_path: Path, library: str) -> None:
    with pytest.raises(OSError, match="No space left") as caught, telling_full(tmp_path):
        write_to_a_full_disk(library)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path))
