"""Swaps of the model during full load, on a service that answers as a test lets it."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench import serving_swaps
from bench.load import Load, request
from bench.measurements import BenchmarkError
from bench.serving_swaps import Swap


class Shop(ThreadingHTTPServer):
    """Training and serving in one: a promoted version serves at once."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.versions = ["3", "2", "1"]
        self.served = "3"
        self.promoted: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Shop

    def do_GET(self) -> None:
        listed = {"items": [{"version": version} for version in self.server.versions]}
        self._say(listed if self.path.startswith("/v1/models") else {"version": self.server.served})

    def do_POST(self) -> None:
        self.server.served = self.path.removesuffix(":promote").rpartition("/")[2]
        self.server.promoted.append(self.server.served)
        self._say({})

    def _say(self, answer: object) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def shop() -> Iterator[Shop]:
    with Shop() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def load_until(monkeypatch: pytest.MonkeyPatch, last_answer: float) -> None:
    """Let a load of one answer stand for a real one, with a swap every 50 ms."""
    monkeypatch.setattr(serving_swaps, "EVERY_S", 0.05)
    monkeypatch.setattr(
        serving_swaps,
        "in_own_process",
        lambda *_, seconds, **__: Load(seconds, {200: 1}, [1.0], 0, [last_answer]),
    )


def test_versions_are_promoted_in_turn_so_that_none_is_at_hand_still(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_until(monkeypatch, time.time() + 3_600)
    requests = [request("GET", shop.url)]
    rows = serving_swaps.run(shop.url, shop.url, requests, 4, connections=1, headers={})
    assert shop.promoted == ["2", "1", "3", "2"]
    assert [row["name"] for row in rows] == [
        "full load, no swap near",
        "full load, the second around a swap",
    ]


def test_a_load_that_ended_before_the_last_swap_says_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_until(monkeypatch, time.time())
    with pytest.raises(BenchmarkError, match="ended before the last swap"):
        serving_swaps.run(shop.url, shop.url, [b""], 2, connections=1, headers={})


def test_one_version_is_nothing_to_swap_to(shop: Shop) -> None:
    shop.versions = ["3"]
    with pytest.raises(BenchmarkError, match="only one model"):
        serving_swaps.run(shop.url, shop.url, [b""], 1, connections=1, headers={})


def test_latencies_are_told_apart_by_their_place_beside_a_swap() -> None:
    swaps = [Swap(asked_at=98.0, taken_at=100.0)]
    load = Load(10.0, {200: 5}, [1.0, 2.0, 50.0, 60.0, 3.0], 0, [97.9, 98.5, 99.6, 100.4, 100.6])
    apart, around = serving_swaps._rows(load, swaps)
    assert (apart["value"], around["value"]) == (2.0, 2.0)
    assert 59 < around["p99_ms"] <= 60 and apart["p99_ms"] <= 3
    assert "in service 2.0 to 2.0 s" in around["note"] and "before that: 2.0 ms" in around["note"]
