"""GGUF files: sizes read in passing, and the folder that they are converted into."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ghosttrack.errors import ConfigError
from ghosttrack.models.gguf import Header, convert, gguf_file, read_header
from tests.support import tiny


@pytest.fixture(scope="module")
def file(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", folders["qwen2"])


def test_sizes_are_read_without_the_vocabulary_or_the_weights(file: Path):
    assert read_header(file) == Header("qwen2", tiny.N_LAYERS, tiny.D_MODEL, tiny.N_CTX)


def test_the_converted_folder_computes_what_the_original_does(
    file: Path, folders: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    convert(file, tmp_path)
    assert not capfd.readouterr().err, "bars stand in a log"
    ids = torch.arange(12)[None]
    with torch.no_grad():
        found, expected = (
            AutoModelForCausalLM.from_pretrained(folder)(ids).logits
            for folder in (tmp_path, folders["qwen2"])
        )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert AutoTokenizer.from_pretrained(tmp_path).decode([1]) == "!"


def test_a_folder_stands_for_the_only_file_that_it_holds(file: Path, tmp_path: Path):
    assert gguf_file(str(file)) == gguf_file(str(file.parent)) == file
    assert gguf_file(str(tmp_path)) is None
    for name in "ab":
        (tmp_path / f"{name}.gguf").touch()
    with pytest.raises(ConfigError, match=r"holds 2 GGUF files; name one, such as .*a\.gguf"):
        gguf_file(str(tmp_path))
    with pytest.raises(ConfigError, match=r"there is no file .*c\.gguf"):
        gguf_file(str(tmp_path / "c.gguf"))


@pytest.mark.parametrize("n_bytes", [0, 3, 20, 200])
def test_a_file_that_is_cut_short_ends_in_one_line(file: Path, tmp_path: Path, n_bytes: int):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes()[:n_bytes])
    with pytest.raises(ConfigError, match=r"cut\.gguf is no GGUF file .*, or is cut short"):
        read_header(cut)


def test_an_architecture_that_is_not_known_is_named(file: Path, tmp_path: Path):
    other = tmp_path / "other.gguf"
    other.write_bytes(file.read_bytes().replace(b"qwen2", b"qwemm"))
    with pytest.raises(ConfigError, match=r"cannot read .*other\.gguf, architecture qwemm"):
        convert(other, tmp_path / "out")
