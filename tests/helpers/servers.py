"""Local servers that stand where W&B's would: one that never answers, and one that takes runs and remembers them."""

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0" * 40  # an API key of the right shape


@contextmanager
def black_hole() -> Iterator[str]:
    """The address of a server that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def refusing() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@dataclass
class ReceivedRun:
    """What a server was told of one run."""

    fields: dict[str, Any] = field(default_factory=dict)  # displayName, groupName, jobType as first told
    config: dict[str, Any] = field(default_factory=dict)
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)  # by W&B's step
    files: set[str] = field(default_factory=set)
    exit_code: int | None = None

    @property
    def keys(self) -> set[str]:
        """What was logged, in any row."""
        return {key for row in self.rows.values() for key in row if not key.startswith("_")}


class WandbServer:
    """As much of W&B's server as its own client needs to send a run, in `with`.

    Attributes:
        address: Its address.
        runs: Received runs by id.
        silent: Once set, it answers nothing any more.
    """

    def __init__(self) -> None:
        self.runs: dict[str, ReceivedRun] = {}
        self.silent = threading.Event()
        self._closing = threading.Event()

    def __enter__(self) -> "WandbServer":
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if server.silent.is_set():
                    server._closing.wait()
                    return
                if self.headers.get("Content-Encoding") == "gzip":
                    raw = gzip.decompress(raw)
                payload = json.dumps(server._answer(self.path, raw)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_PUT = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hung up
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, path: str, raw: bytes) -> dict[str, Any]:
        if path.endswith("/file_stream"):
            self._receive(self.runs[path.split("/")[-2]], json.loads(raw))
            return {}
        if path != "/graphql":
            return {}
        asked = json.loads(raw)
        variables = asked.get("variables") or {}
        if asked["operationName"] == "UpsertBucket":
            return {"data": {"upsertBucket": self._upsert(variables)}}
        if asked["operationName"] == "CreateRunFiles":
            self.runs[variables["run"]].files |= set(variables["files"])
            files = [{"name": name, "uploadUrl": f"{self.address}/storage/{name}"} for name in variables["files"]]
            return {"data": {"createRunFiles": {"runID": "0", "uploadHeaders": [], "files": files}}}
        if asked["operationName"] == "CreateArtifact":
            given = variables["input"]
            self.runs[given["runName"]].files.add(f"artifact/{given['artifactTypeName']}")
            known = {"id": "a", "state": "COMMITTED", "artifactSequence": {"latestArtifact": {"id": "a"}}}
            return {"data": {"createArtifact": {"artifact": known}}}
        return {"data": {}}

    def _upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.setdefault(variables["name"], ReceivedRun())
        run.fields |= {key: value for key, value in variables.items() if value is not None and key != "config"}
        run.config |= {key: value["value"] for key, value in json.loads(variables["config"] or "{}").items()}
        project = {"id": "p", "name": "drolt_pl", "entity": {"id": "e", "name": "me"}}
        bucket = {"id": "r", "name": variables["name"], "displayName": "", "historyLineCount": 0, "project": project}
        return {"bucket": bucket, "inserted": True}

    @staticmethod
    def _receive(run: ReceivedRun, told: dict[str, Any]) -> None:
        for line in told.get("files", {}).get("wandb-history.jsonl", {}).get("content", []):
            row = json.loads(line)
            run.rows.setdefault(row["_step"], {}).update(row)
        if told.get("complete"):
            run.exit_code = told["exitcode"]
