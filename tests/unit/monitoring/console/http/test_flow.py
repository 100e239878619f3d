"""The routes of flow and stream: parameters, refusals, and the form of a stream."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from services.monitoring.app import create_app
from services.monitoring.console.http import flow as routes
from services.monitoring.console.http.flow import FlowParts, written
from services.monitoring.console.passing_records import Choice
from services.monitoring.console.streams import MOST_STREAMS, Streams
from services.monitoring.console.visitor_slates_repository import MOST_SLATES, SeenSlates
from services.monitoring.console.watching import FlowWatch
from services.monitoring.settings import MonitoringSettings
from slipstream.broker.kafka import BrokerUnavailableError
from tests.unit.chassis.access.key_records import key_record

TOKEN = {"Authorization": "Bearer s3cret"}


class Served:
    """Monitoring's app with streams that a test fills, and without a broker."""

    def __init__(self) -> None:
        self.app: FastAPI = create_app(MonitoringSettings(http={"api_token": "s3cret"}))  # type: ignore[arg-type]
        self.streams = Streams(written, lambda: 7)
        self.asked: list[tuple[str, int]] = []
        watch = FlowWatch(
            self._unreachable, self._unreachable, self.streams, list, lambda: 0, lambda: 7
        )
        self.app.state.flow_parts = FlowParts(watch, self.streams, self._slates)
        self.app.state.keys.take(key_record("reader", ["read"]))
        self.client = TestClient(self.app, headers=TOKEN)

    def _unreachable(self) -> Any:
        raise BrokerUnavailableError("no answer")

    def _slates(self, visitor_id: str, limit: int) -> SeenSlates:
        self.asked.append((visitor_id, limit))
        return SeenSlates(items=[], since=7)

    async def read(
        self, query: str, then: Callable[["Served"], None], headers: dict[str, str] | None = None
    ) -> tuple[dict[str, Any], str]:
        """The head and the body of a stream that ends; `then` is called once it is open."""
        sent: list[dict[str, Any]] = []
        opened, left = asyncio.Event(), asyncio.Event()

        async def receive() -> dict[str, Any]:
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)
            if message.get("body"):
                opened.set()

        given = headers or TOKEN
        scope = {
            "type": "http", "method": "GET", "path": "/v1/stream", "query_string": query.encode(),
            "http_version": "1.1", "root_path": "", "scheme": "http", "client": ("127.0.0.1", 5),
            "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        }  # fmt: skip
        task = asyncio.create_task(self.app(scope, receive, send))  # type: ignore[arg-type]
        await asyncio.wait_for(opened.wait(), 30)
        then(self)
        try:
            await asyncio.wait_for(task, 30)
        finally:
            left.set()
        body = b"".join(message.get("body", b"") for message in sent)
        return sent[0], body.decode()


@pytest.fixture
def served() -> Served:
    return Served()


def end(served: Served) -> None:
    served.streams.end()


async def test_a_stream_of_figures_ends_when_the_instance_stops(served: Served) -> None:
    def tick_and_end(it: Served) -> None:
        it.streams.tick({"at": 7})
        it.streams.end()

    head, body = await served.read("", tick_and_end)
    headers = {name.decode(): value.decode() for name, value in head["headers"]}
    assert headers["content-type"].startswith("text/event-stream")
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")
    comment, figures, ended, rest = body.split("\n\n")
    assert comment.startswith(": ") and comment.endswith("retry: 1000")
    assert figures == 'event: figures\ndata: {"at":7}\nid: 7'
    assert ended == "event: end\ndata: {}\nid: 7"
    assert rest == "" and not served.streams.watched


async def test_a_silent_stream_has_comments(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "COMMENT_EVERY_S", 0.01)

    def wait_and_end(it: Served) -> None:
        asyncio.get_running_loop().call_later(0.1, it.streams.end)

    _, body = await served.read("figures=0", wait_and_end)
    assert body.count(": still here\n\n") > 2


async def test_a_stream_ends_with_its_credential(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "JUDGED_EVERY_S", 0.01)

    def revoke(it: Served) -> None:
        it.app.state.keys.take(key_record("reader", ["read"], revoked_at=2))

    _, body = await served.read("", revoke, {"Authorization": "Bearer reader"})
    assert "event: end" not in body and not served.streams.watched


async def test_what_is_asked_for_is_what_is_chosen(served: Served) -> None:
    opened = []

    def look(it: Served) -> None:
        opened.extend((each.choice, each.figures) for each in it.streams._streams())
        it.streams.end()

    query = (
        "figures=0&records=1&topic=interactions.v1&kind=click&visitor=a%2Fb&item=i&placement=home"
        "&code=c"
    )
    await served.read(query, look)
    assert opened == [(Choice("interactions.v1", "click", "a/b", "i", "home", "c"), False)]


@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        ("", {"Authorization": ""}, 401, "unauthorized"),
        ("?records=1", {"Authorization": "Bearer reader"}, 403, "scope_missing"),
        ("?records=1&topic=interaction.v1", TOKEN, 400, "unknown_topic"),
        ("?records=1&topic=access-keys.v1", TOKEN, 400, "unknown_topic"),
        ("?records=perhaps", TOKEN, 422, "invalid_request"),
        ("?record=1", TOKEN, 422, "invalid_request"),
    ],
)
def test_refusals(
    served: Served, query: str, headers: dict[str, str], status: int, code: str
) -> None:
    refused = served.client.get(f"/v1/stream{query}", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    if code == "unknown_topic" and "interaction.v1" in query:
        assert "did you mean interactions.v1?" in refused.json()["detail"]
    assert not served.streams.watched


async def test_so_many_streams_are_open_at_most(served: Served) -> None:
    for _ in range(MOST_STREAMS):
        served.streams.open(None, True, lambda: True)
    refused = await asyncio.to_thread(served.client.get, "/v1/stream")
    assert (refused.status_code, refused.json()["code"]) == (503, "too_many_streams")
    assert refused.headers["retry-after"]


def test_slates_of_a_visitor_need_operate(served: Served) -> None:
    answer = served.client.get("/v1/visitors/a%2Fb/slates?limit=3")
    assert (answer.status_code, answer.json()) == (200, {"items": [], "since": 7})
    assert served.asked == [("a/b", 3)]
    reader = {"Authorization": "Bearer reader"}
    refused = served.client.get("/v1/visitors/ada/slates", headers=reader)
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
    for limit in (0, MOST_SLATES + 1):
        assert served.client.get(f"/v1/visitors/ada/slates?limit={limit}").status_code == 422


def test_without_a_broker_the_flow_has_nodes_and_no_figures(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.monitoring.console.watching._PATIENCE_S", 0.0)
    answer = served.client.get("/v1/flow", headers={"Authorization": "Bearer reader"})
    assert answer.status_code == 200
    assert all(edge["rate"] is None for edge in answer.json()["edges"])
