from pathlib import Path

import pytest

from ghosttrack.data.documents import text_documents
from ghosttrack.errors import ConfigError, DataError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "documents"),
    [
        pytest.param("one\n\n two \n", ["one", "two"], id="a document a line"),
        pytest.param(
            "One day.\nThe end.\n<|endoftext|>\nTwo.\n",
            ["One day.\nThe end.", "Two."],
            id="parted by <|endoftext|>",
        ),
        pytest.param(
            " \n = A = \n \n text \n = = B = = \n more \n \n = C = \n end \n",
            ["= A = \n \n text \n = = B = = \n more", "= C = \n end"],
            id="WikiText articles",
        ),
        pytest.param("a = b = c\n = D = \n", ["a = b = c", "= D ="], id="no heading first"),
    ],
)
def test_a_text_file_is_parted_into_documents(tmp_path, text, documents):
    assert list(text_documents(write(tmp_path / "a.txt", text))) == documents


def test_a_folders_files_are_read_in_order(tmp_path):
    write(tmp_path / "b.txt", "two\n")
    write(tmp_path / "a.jsonl", '{"text": "one\\nmore", "id": 3}\n\n')
    write(tmp_path / "notes.md", "not text for training\n")
    assert list(text_documents(tmp_path)) == ["one\nmore", "two"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"fine\n\xff\xfe\n", r"a\.txt:2: not UTF-8 \(byte 0xff\)"),
        ("a.txt", b"\n \n", r"a\.txt: holds no text"),
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", b'{"txt": "a"}\n', r'a\.jsonl:1: not an object with a text in "text"'),
        ("a.jsonl", b"[1]\n", r'a\.jsonl:1: not an object with a text in "text"'),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(text_documents(tmp_path / name))


@pytest.mark.parametrize("name", ["missing.txt", "a.pdf", ""])
def test_a_path_without_text_files_is_refused(tmp_path, name):
    (tmp_path / "a.pdf").touch()
    with pytest.raises(ConfigError, match=r"^corpus\.path="):
        list(text_documents(tmp_path / name))
