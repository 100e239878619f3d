"""A server that answers as ingestion does, and keeps what it is sent."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import pytest

from slipstream.datasets import upload


class Collector(ThreadingHTTPServer):
    """Keeps what it is sent. Rejects events of the visitor `nobody`, and calls a message id that
    came before a duplicate; answers with the statuses in `refusals` first.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.bodies: list[tuple[str, dict[str, Any], float]] = []
        self.refusals: list[tuple[int, str]] = []
        self.known: set[str] = set()
        self.patched: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    def events(self) -> list[dict[str, Any]]:
        return [
            event
            for path, body, _ in self.bodies
            if path == "/v1/import"
            for event in body["batch"]
        ]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Collector

    def do_POST(self) -> None:
        body = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            refusal = self.server.refusals.pop() if self.server.refusals else None
            if refusal is None:
                self.server.bodies.append((self.path, body, time.perf_counter()))
        if refusal is not None:
            self.answer(refusal[0], b"{}", {"Retry-After": refusal[1]})
            return
        entries = body.get("batch") or body.get("items")
        results = [self.verdict(index, entry) for index, entry in enumerate(entries)]
        statuses = [result["status"] for result in results]
        verdicts = {
            "accepted": statuses.count("accepted"),
            "duplicates": statuses.count("duplicate"),
            "rejected": statuses.count("rejected"),
            "results": results,
        }
        self.answer(200, orjson.dumps(verdicts), {})

    def do_PATCH(self) -> None:
        before = len(self.server.bodies)
        self.do_POST()
        self.server.patched += [
            e for _, body, _ in self.server.bodies[before:] for e in body["items"]
        ]

    def verdict(self, index: int, entry: dict[str, Any]) -> dict[str, Any]:
        if entry.get("userId") == "nobody":
            return {"index": index, "status": "rejected", "code": "bad", "field": "userId"}
        identifier = entry.get("messageId")
        with self.server.lock:
            known = identifier in self.server.known
            self.server.known |= {identifier} - {None}
        status = "duplicate" if known else "accepted"
        return {"index": index, "message_id": identifier, "status": status}

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(upload, "LONGEST_PAUSE_S", 0.01)
