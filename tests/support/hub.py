"""A hub of one data set, on the loopback: what `datasets` asks for to stream its files."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "some/data"


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]


@contextmanager
def served(files: Mapping[str, bytes]) -> Iterator[str]:
    """Serve some files, none in a folder, as the data set `NAME`; the address is given."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.files = files
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        answer = _answer(self.server.files, urlsplit(self.path).path, self.headers.get("Range"))
        self.send_response(answer.status)
        for name, value in ({"Content-Length": str(len(answer.body))} | answer.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(answer.body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _answer(files: Mapping[str, bytes], path: str, wanted: str | None) -> Answer:
    found = re.fullmatch(f"(/api)?/datasets/{NAME}(/.+)?", path)
    if found is None:
        return Answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
    match (found[2] or "").split("/")[1:]:
        case [] | ["revision", _]:
            return _json({"id": NAME, "sha": COMMIT, "siblings": []})
        case ["tree", _]:
            return _json([_entry(*file) for file in files.items()])
        case ["resolve", _, name] if name in files:
            return _content(files[name], wanted)
    return Answer(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})


def _json(value: object) -> Answer:
    return Answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})


def _entry(name: str, content: bytes) -> dict[str, object]:
    oid = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": name, "size": len(content), "oid": oid}


def _content(content: bytes, wanted: str | None) -> Answer:
    headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
    if wanted is None:
        return Answer(200, content, headers)
    first, last = wanted.removeprefix("bytes=").split("-")
    part = content[int(first) : int(last) + 1 if last else None]
    span = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
    return Answer(206, part, headers | {"Content-Range": span})
