"""The benchmark of the shop: its shoppers' process, and stacks that it refuses to measure."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from bench import shop
from bench.measurements import BenchmarkError
from bench.runner import Target, target_of

ITEMS = [
    {"item_id": f"film-{number}", "attributes": {"categories": [f"kind-{number % 3}"]}}
    for number in range(30)
]
SLATE = {"recommendation_id": "r", "items": [{"item_id": "film-1", "position": 0}]}


class Stack:
    """A stand-in for all services, on one port.

    Attributes:
        has_shop: Whether monitoring has a shop.
        status: The status of serving's lists.
        events: The names of events that came.
    """

    def __init__(self) -> None:
        self.has_shop = True
        self.status = 200
        self.events: list[str] = []
        self.came = threading.Event()

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        match path.partition("?")[0]:
            case "/v1/console":
                return 200, {"shop": self.has_shop}
            case "/v1/items":
                return 200, {"items": ITEMS, "next_cursor": None}
            case "/v1/recommendations":
                return self.status, SLATE
            case "/v1/batch":
                batch = orjson.loads(body)["batch"]
                self.events += [each.get("event", each["type"]) for each in batch]
                self.came.set()
                return 200, {"results": [{"status": "accepted"}] * len(batch)}
        return 200, {}


@contextmanager
def served(stack: Stack) -> Iterator[Target]:
    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            status, body = stack.answer(self.path, self.rfile.read(length))
            self.send_response(status)
            content = orjson.dumps(body)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        services = dict.fromkeys(("ingestion", "features", "serving", "monitoring"), url)
        try:
            yield target_of({**services, "write_key": "k", "kafka": "-", "namespace": "n"})
        finally:
            server.shutdown()


def test_shoppers_visit_from_a_process_of_their_own_until_they_are_told_to_leave() -> None:
    stack = Stack()
    with served(stack) as target, shop.Shoppers(target, 50) as crowd:
        assert stack.came.wait(60)
        visited = crowd.leave()
    assert visited.lists >= 1 and visited.seconds > 0
    assert visited.calls == len(stack.events)
    assert "Product List Viewed" in stack.events


def test_a_service_that_does_not_serve_the_shoppers_ends_their_visits_with_its_words() -> None:
    stack, said = Stack(), list[Any]()
    stack.status = 401
    with served(stack) as target:
        rows = [{**each["attributes"], "item_id": each["item_id"]} for each in ITEMS]  # type: ignore[dict-item]
        parent = SimpleNamespace(send=said.append)
        shop._send_shoppers(parent, rows, 5, target.urls, "k", "")  # type: ignore[arg-type]
    began, (_, failure) = said
    assert began is None
    assert "answers 401 to /v1/recommendations" in failure


def test_a_stack_without_a_shop_is_refused_with_the_setting_that_opens_it() -> None:
    stack = Stack()
    stack.has_shop = False
    with (
        served(stack) as target,
        pytest.raises(BenchmarkError, match="SLIPSTREAM_MONITORING__SHOP=true"),
    ):
        shop.run(target)
