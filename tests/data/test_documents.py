import gzip
import io
import json
import random
import shutil
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ghosttrack.data.config import BadFiles
from ghosttrack.data.documents import BATCH_ROWS, SNIFF_LINES, TextFiles
from ghosttrack.errors import ConfigError, DataError

DOCUMENTS = ["one", "two two", "three ä", "four"]


def read(path: Path, *, column: str = "text", bad_files: BadFiles = BadFiles.refuse) -> list[str]:
    return list(TextFiles(path, column, bad_files).documents())


def compressed(content: bytes, compression: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, compression) as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def encoded(documents: list[str | None], suffix: str, column: str = "text") -> bytes:
    """Write documents as a file of this name's end would hold them."""
    if suffix == ".parquet":
        sink = io.BytesIO()
        table = pa.table({"id": range(len(documents)), column: pa.array(documents, pa.string())})
        pq.write_table(table, sink, row_group_size=2)
        return sink.getvalue()
    if suffix.startswith(".json"):
        rows = [json.dumps({"id": n, column: text}) for n, text in enumerate(documents)]
    else:
        rows = [text or "" for text in documents]
    plain = "".join(row + "\n" for row in rows).encode()
    if suffix.endswith(".gz"):
        return gzip.compress(plain)
    return compressed(plain, "zstd") if suffix.endswith(".zst") else plain


SUFFIXES = (
    *(".txt", ".txt.gz", ".txt.zst", ".jsonl", ".jsonl.gz", ".jsonl.zst"),
    *(".parquet", ".JSONL", ".Txt.GZ", ".json.gz", ".json.zst"),
)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_holds_the_same_documents(tmp_path, suffix):
    path = tmp_path / f"some.text{suffix}"
    path.write_bytes(encoded([*DOCUMENTS[:2], None, " ", *DOCUMENTS[2:]], suffix.lower()))
    assert read(path) == DOCUMENTS


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_column_of_any_type_of_text_is_read(tmp_path, kind):
    pq.write_table(pa.table({"body": pa.array(DOCUMENTS).cast(kind)}), tmp_path / "a.parquet")
    assert read(tmp_path, column="body") == DOCUMENTS


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
        pytest.param("\ufeffone\r\ntwo", ["one", "two"], id="as Windows writes it"),
    ],
)
def test_a_text_file_is_parted_into_documents(tmp_path, text, documents):
    (tmp_path / "a.txt").write_bytes(text.encode())
    assert read(tmp_path / "a.txt") == documents


def test_a_folders_files_are_read_in_order_and_hidden_ones_not(tmp_path):
    for name, documents in {
        "b.txt": ["three"],
        "a/z.jsonl.gz": ["two"],
        "a/.hidden/a.txt": ["no"],
        "a/b.parquet": ["one"],
        ".a.txt": ["no"],
        "notes.md": ["no"],
        "c.parquet.gz": ["no"],
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encoded(documents, "".join(Path(name).suffixes)))
    (tmp_path / "d.txt").mkdir()
    assert read(tmp_path) == ["one", "two", "three"]


@pytest.mark.parametrize("suffix", [".txt", ".txt.zst", ".jsonl.gz", ".parquet"])
def test_no_more_is_read_than_is_asked_for(tmp_path, suffix):
    # The first file is longer than the lines that are looked at and the rows of a batch; what comes
    # behind it would be refused.
    long = [f"document {n}" for n in range(2 * max(SNIFF_LINES, BATCH_ROWS))]
    (tmp_path / f"a{suffix}").write_bytes(encoded(long, suffix))
    (tmp_path / "b.txt").write_bytes(b"\xff")
    documents = TextFiles(tmp_path, "text", BadFiles.refuse).documents()
    assert list(islice(documents, len(long))) == long
    with pytest.raises(DataError, match=r"b\.txt:1"):
        next(documents)


def test_a_large_row_group_is_not_held_whole(tmp_path):
    n_rows, text = 2000, "x" * 20_000
    pq.write_table(
        pa.table({"text": [f"{n} {text}" for n in range(n_rows)]}),
        tmp_path / "a.parquet",
        use_dictionary=False,
        write_batch_size=32,
    )
    before = pa.total_allocated_bytes()
    documents = TextFiles(tmp_path, "text", BadFiles.refuse).documents()
    peak = max(pa.total_allocated_bytes() for _ in documents) - before
    # A batch of 128 rows is 2.6 MB, a page 1 MB; the row group has 40.
    assert peak < 10_000_000


BAD = [
    ("a.txt", b"first\n\xff\xfe\n", r"a\.txt:2: not UTF-8 \(byte 0xff\); save the file as UTF-8"),
    ("a.txt", b"first\n" + "x".encode("utf-16-le"), r"a\.txt:2: not UTF-8 \(byte 0x00\)"),
    ("a.txt.gz", gzip.compress(b"first\n\xe4\n"), r"a\.txt\.gz:2: not UTF-8 \(byte 0xe4\)"),
    ("a.txt.gz", b"first\n", r"a\.txt\.gz: cannot be decompressed \(zlib .*; compress it anew"),
    ("a.txt.zst", b"first\n", r"a\.txt\.zst: cannot be decompressed \(ZSTD .*; compress it anew"),
    ("a.txt", b"\n \n", r"a\.txt: holds no text"),
    ("a.txt", b"", r"a\.txt: holds no text"),
    ("a.jsonl.zst", b"", r"a\.jsonl\.zst: holds no text"),
    ("a.parquet", b"", r"a\.parquet: broken after 0 rows \(.*\); write it anew"),
    ("a.parquet", encoded(["a"], ".parquet")[:-9], r"a\.parquet: broken after 0 rows"),
    ("a.parquet", encoded([], ".parquet"), r"a\.parquet: holds no text"),
    ("a.jsonl", b'{"text": "first"}\n{"text": \n', r"a\.jsonl:2: not JSON \(Expecting value\)"),
    ("a.jsonl", b'{"text": "first"}\n' + b"[" * 10**5, r"a\.jsonl:2: not JSON \("),
    ("a.jsonl", b'{"text": "first"}\n[1]\n', r"a\.jsonl:2: not a JSON object"),
    (
        "a.jsonl",
        b'{"text": "first"}\n{"text": "\\ud800"}',
        r"a\.jsonl:2: .* is half of a character",
    ),
    (
        "a.jsonl",
        b'{"text": "first"}\n{"id": 3, "body": "x"}\n',
        r"a\.jsonl:2: no text in 'text'; .* one of \['body'\]; not text: id \(number\)",
    ),
    ("a.jsonl", b'{"text": 3}\n', r"a\.jsonl:1: no text in 'text'; no column holds text"),
    (
        "a.jsonl",
        b'{"text": {"en": "x"}, "ids": [1], "ok": true, "body": "x"}\n',
        r"one of \['body'\]; not text: text \(object\), ids \(list\), ok \(boolean\)",
    ),
    (
        "a.parquet",
        encoded(["x"], ".parquet", "body"),
        r"a\.parquet: no text in 'text'; .* one of \['body'\]; not text: id \(int64\)",
    ),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD, ids=[message for *_, message in BAD])
def test_a_bad_file_is_refused_by_name_or_skipped(tmp_path, caplog, name, content, message):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "b.txt").write_text("last\n")
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path)
    assert str(caught.value).endswith(", or set corpus.bad_files=skip")
    assert "\n" not in str(caught.value)

    *_, last = read(tmp_path, bad_files=BadFiles.skip)
    assert last == "last"
    (warning,) = caplog.messages
    assert name in warning
    assert "corpus.bad_files=skip" in warning


def test_what_comes_before_the_fault_counts(tmp_path):
    broken = {".txt": b"first\nmore\n\xff\nno\n", ".jsonl": b'{"text": "first"}\n{\n{"text": "no"}'}
    for suffix, content in broken.items():
        (tmp_path / f"a{suffix}").write_bytes(content)
    assert read(tmp_path, bad_files=BadFiles.skip) == ["first", "first", "more"]


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_truncated_file_is_read_up_to_there(tmp_path, compression):
    draw = random.Random(0)
    rows = "".join(f"{draw.randbytes(40).hex()}\n" for _ in range(8000)).encode()
    path = tmp_path / f"a.txt{'.gz' if compression == 'gzip' else '.zst'}"
    path.write_bytes(compressed(rows, compression)[:-100_000])
    with pytest.raises(DataError, match=r"a\.txt\.\w+:\d+: cannot be decompressed \(Truncated"):
        read(path)
    documents = read(path, bad_files=BadFiles.skip)
    assert 100 < len(documents) < 8000
    assert documents == rows.decode().splitlines()[: len(documents)]


@pytest.mark.parametrize("bad_files", BadFiles)
def test_a_corpus_without_any_text_is_refused(tmp_path, bad_files):
    (tmp_path / "a.txt").write_bytes(b"\xff\n")
    (tmp_path / "b.txt").touch()
    with pytest.raises(DataError, match=r"^\S*(a\.txt:1: not UTF-8|: holds no text but what)"):
        read(tmp_path, bad_files=bad_files)


@pytest.mark.parametrize("name", ["missing.txt", "a.pdf", ""])
def test_a_path_without_text_files_is_refused(tmp_path, name):
    (tmp_path / "a.pdf").touch()
    with pytest.raises(ConfigError, match=r"^corpus\.path="):
        read(tmp_path / name)


def identity(path: Path, column: str = "text", bad_files: BadFiles = BadFiles.refuse) -> object:
    return TextFiles(path, column, bad_files).identity


def test_the_identity_is_what_is_read_and_how_but_not_where(tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    (here / "a.jsonl").write_text('{"text": "one"}\n')
    first = identity(here)
    there = shutil.copytree(here, tmp_path / "there" / "deeper")
    (there / "notes.md").write_text("not read")
    (there / ".a.txt.swp").write_text("not read")
    assert identity(there) == first
    assert identity(here, column="body") != first
    assert identity(here, bad_files=BadFiles.skip) != first
    (there / "b.txt").write_text("two\n")
    assert identity(there) != first


def test_a_single_file_is_known_by_content_and_format(tmp_path):
    for name in ("a.txt", "b.txt", "a.jsonl"):
        (tmp_path / name).write_text('{"text": "one"}\n')
    assert identity(tmp_path / "a.txt") == identity(tmp_path / "b.txt")
    assert identity(tmp_path / "a.txt") != identity(tmp_path / "a.jsonl")
