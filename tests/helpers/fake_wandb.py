"""A stand-in for wandb's server on this machine: it takes runs and their curves, or it says nothing."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar


class Handler(BaseHTTPRequestHandler):
    """Answers what `wandb sync` asks; keeps what it sends."""

    runs: ClassVar[list[dict[str, Any]]]
    history: ClassVar[list[dict[str, Any]]]
    sent: ClassVar[list[bytes]]
    asked: ClassVar[threading.Event]
    silent: ClassVar[bool]

    def do_POST(self) -> None:
        body = json.loads(self._body() or b"{}")
        query, variables = body.get("query", ""), body.get("variables", {})
        self.asked.set()
        if self.silent:
            threading.Event().wait()
        lines = body.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
        self.history.extend(json.loads(line) for line in lines)
        if "mutation UpsertBucket" in query:
            self.runs.append(variables)
            self._answer(upsertBucket={"bucket": _bucket(variables), "inserted": True})
        elif "mutation CreateRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self._address()}/file"} for name in variables["files"]]
            self._answer(createRunFiles={"runID": "1", "uploadHeaders": [], "files": files})
        else:
            self._answer()

    def do_PUT(self) -> None:
        self._body()
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.sent.append(body)
        return body

    def _address(self) -> str:
        return "http://{}:{}".format(*self.server.server_address[:2])

    def _answer(self, **data: Any) -> None:
        text = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def _bucket(variables: dict[str, Any]) -> dict[str, Any]:
    project = {"id": "1", "name": variables.get("project"), "entity": {"id": "1", "name": "me"}}
    return {
        "id": "1",
        "name": variables.get("name"),
        "displayName": variables.get("displayName"),
        "description": None,
        "config": "{}",
        "sweepName": None,
        "historyLineCount": 0,
        "project": project,
    }


@contextmanager
def serve(*, silent: bool) -> Iterator[tuple[str, type[Handler]]]:
    """The server's address, and what it has been told."""
    kept = type(
        "Kept", (Handler,), {"runs": [], "history": [], "sent": [], "asked": threading.Event(), "silent": silent}
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), kept)
    server.daemon_threads, server.block_on_close = True, False
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield "http://{}:{}".format(*server.server_address[:2]), kept
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
