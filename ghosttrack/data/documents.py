"""Documents of unlabelled text, read from files one at a time."""

import json
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from ghosttrack.data.files import lines
from ghosttrack.errors import ConfigError, DataError

END_OF_TEXT = "<|endoftext|>"
TITLE = re.compile(r"\s*= [^=]+ =\s*")
"""An article's heading in WikiText; sections have more `=`."""
SNIFF_LINES = 10_000


def text_documents(path: Path) -> Iterator[str]:
    """Yield the documents of a text file, or of all .txt and .jsonl files of a folder, sorted.

    A .jsonl file holds a document a line, in `text`. A .txt file's first lines decide, in this
    order: where one is `<|endoftext|>`, such lines part documents; where the first that is not
    blank is a heading ` = Title = ` (WikiText), every such heading begins one; else every line is a
    document. Blank lines alone never are.

    Raises:
        ConfigError: `corpus.path` is not there, or holds no such file.
        DataError: A file is not UTF-8, not JSON or holds no text; names the file and the line.
    """
    if path.is_dir():
        files = sorted(item for item in path.rglob("*") if item.suffix in (".txt", ".jsonl"))
    else:
        files = [path] if path.is_file() and path.suffix in (".txt", ".jsonl") else []
    if not files:
        raise ConfigError(f"corpus.path={path} must be a .txt or .jsonl file or a folder of those")
    for file in files:
        documents = _txt_documents(file) if file.suffix == ".txt" else _jsonl_documents(file)
        empty = True
        for document in documents:
            if document.strip():
                empty = False
                yield document.strip()
        if empty:
            raise DataError(f"{file}: holds no text")


def _txt_documents(path: Path) -> Iterator[str]:
    head = [line for _, line in islice(lines(path), SNIFF_LINES)]
    first = next((line for line in head if line.strip()), "")
    if END_OF_TEXT in (line.strip() for line in head):
        return _parted(path, lambda line: line.strip() == END_OF_TEXT, keep=False)
    if TITLE.fullmatch(first):
        return _parted(path, lambda line: TITLE.fullmatch(line) is not None, keep=True)
    return (line for _, line in lines(path))


def _parted(path: Path, parts: Callable[[str], bool], *, keep: bool) -> Iterator[str]:
    """Yield what stands between the lines that part documents; `keep`: they begin one."""
    document: list[str] = []
    for _, line in lines(path):
        if parts(line):
            yield "\n".join(document)
            document = [line] if keep else []
        else:
            document.append(line)
    yield "\n".join(document)


def _jsonl_documents(path: Path) -> Iterator[str]:
    for number, line in lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: not JSON ({error.msg})") from error
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise DataError(f'{path}:{number}: not an object with a text in "text"')
        yield row["text"]
