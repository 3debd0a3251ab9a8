"""As much of a W&B server as an online run talks to, on the loopback."""

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FIELD = re.compile(r"(?:query|mutation)[^{]*\{\s*(?:\w+\s*:\s*)?(\w+)")
COMMITTED = {
    "__typename": "Artifact", "state": "COMMITTED", "versionIndex": 0, "digest": "0", "size": 0,
    "artifactType": {"name": "any"}, "description": None, "metadata": None, "tags": [],
    "ttlDurationSeconds": -1, "ttlIsInherited": False, "historyStep": None, "commitHash": None,
    "fileCount": 0, "createdAt": "2026-01-01T00:00:00Z", "updatedAt": None,
}  # fmt: skip
"""What W&B wants to know of an artifact that it has sent."""
PROJECT = {"id": "1", "name": "ghosttrack", "entity": {"id": "1", "name": "me"}}


class Server(ThreadingHTTPServer):
    """Keeps what was sent to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, dict[str, Any]] = {}
        """Variables with which each run was last made or changed, by its id."""
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.artifacts: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        """For `WANDB_BASE_URL`."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, field: str, given: dict[str, Any]) -> object:
        """Answer one field of GraphQL; null where it is none of these."""
        if field == "upsertBucket":
            name = given.get("name") or given.get("id")
            self.runs[name] = self.runs.get(name, {}) | {k: v for k, v in given.items() if v}
            run = {"id": "1", "name": name, "displayName": name, "project": PROJECT}
            run |= {"historyLineCount": 0, "sweepName": None, "config": None, "eventsLineCount": 0}
            return {"bucket": run, "inserted": True}
        if field == "createArtifact":
            self.artifacts.append(given["input"])
            made = {"id": str(len(self.artifacts) - 1), "state": "COMMITTED", "versionIndex": 0}
            return {"artifact": {**made, "artifactSequence": None}}
        if field == "artifact":
            return COMMITTED | {
                "id": given["id"],
                "artifactSequence": {
                    "__typename": "ArtifactSequence",
                    "name": self.artifacts[int(given["id"])]["artifactCollectionName"],
                    "project": {**PROJECT, "internalId": "1"},
                },
            }
        return {
            "viewer": {"id": "1", "entity": "me", "flags": "{}", "teams": {"edges": []}},
            "serverInfo": {"cliVersionInfo": {"max_cli_version": "9.9.9"}, "features": []},
            "useArtifact": {"artifact": {"id": "1"}},
            "createRunFiles": {"runID": "1", "uploadHeaders": [], "files": []},
        }.get(field)


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        """Answer GraphQL, and take a file stream's lines."""
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/sdk/otel"):  # W&B's own telemetry, which is no JSON
            self._send({})
            return
        if self.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        body = json.loads(data or b"{}")
        if self.path.endswith("/file_stream"):
            lines = body.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
            kept = self.server.history.setdefault(self.path.split("/")[-2], [])
            kept += [json.loads(line) for line in lines]
            self._send({"exitcode": None, "limits": {}})
        else:
            match = FIELD.search(body.get("query", ""))
            field = match.group(1) if match else ""
            given = body.get("variables") or {}
            self._send({"data": {field: self.server.answer(field, given)}})

    def do_GET(self) -> None:
        """Be there."""
        self._send({})

    def do_PUT(self) -> None:
        """Take a file."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self._send({})

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _send(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving() -> Iterator[Server]:
    """Serve until the block ends."""
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
