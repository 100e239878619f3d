"""Requests to serving's app on a socket, with the clock and every id under control."""

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from operator import attrgetter
from typing import Any
from unittest.mock import patch

import orjson
from fastapi import FastAPI
from uvicorn.server import ServerState

from services.serving.request import explaining
from slipstream.broker.records import encode
from slipstream.chassis.server import server_config
from slipstream.chassis.settings import ServiceSettings
from slipstream.contracts import slates
from tests.unit.serving.app_on_fakes import make_app
from tests.unit.serving.recorded.random_requests import Sent, requests
from tests.unit.serving.recorded.scenes import NOW_MS, Scene

# Headers that are left out: the moment, and lengths of bodies, which are compared themselves.
_LEFT_OUT = (b"date", b"content-length")


class _Clock:
    """The wall clock and the ids, which follow from the number of the request."""

    def __init__(self) -> None:
        self.now_ms, self._ids = NOW_MS, random.Random(0)

    def begin(self, number: int) -> None:
        self.now_ms, self._ids = NOW_MS + number * 1_000, random.Random(number)

    def next(self) -> str:
        """The random digits of a version 4 UUID that stand where an id has its own."""
        return uuid.UUID(int=self._ids.getrandbits(128), version=4).hex[13:]


@contextmanager
def _controlled() -> Iterator[_Clock]:
    clock = _Clock()
    with (
        patch.object(time, "time_ns", lambda: clock.now_ms * 1_000_000),
        patch.object(time, "time", lambda: clock.now_ms / 1_000),
        patch.object(slates, "_random", clock),
        patch.object(explaining, "LONGEST_S", 60.0),
    ):
        yield clock


@asynccontextmanager
async def connected(
    app: FastAPI,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the app, served in this event loop."""
    config = server_config(app, ServiceSettings(), "serving")
    config.load()
    protocol: Any = config.http_protocol_class
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        server.close()
        await asyncio.sleep(0)


async def answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: Sent
) -> tuple[int, list[list[str]], str]:
    """Status, headers and body of the answer to a request."""
    lines = [f"{sent.method} {sent.path} HTTP/1.1", *(f"{k}: {v}" for k, v in sent.headers.items())]
    if sent.body:
        lines.append(f"content-length: {len(sent.body)}")
    writer.write("\r\n".join([*lines, "", ""]).encode() + sent.body)
    first, *fields = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[:-2]
    pairs = [tuple(field.split(b": ", 1)) for field in fields]
    length = next(int(value) for name, value in pairs if name == b"content-length")
    body = await reader.readexactly(length)
    headers = [[n.decode(), v.decode()] for n, v in pairs if n not in _LEFT_OUT]
    return int(first.split()[1]), sorted(headers), body.decode()


async def answers(scene: Scene) -> list[dict[str, Any]]:
    """What serving answers and records for the scene's requests, one after the other."""
    setting, found = scene.setting, list[dict[str, Any]]()
    chance = random.Random(scene.name)
    todo = requests(chance, scene.visitors, scene.items, scene.count)
    with _controlled() as clock:
        async with connected(make_app(setting)) as (reader, writer):
            for number, sent in enumerate(todo):
                clock.begin(number)
                if number % 8 == 7:
                    scene.click(number, clock.now_ms)
                before = len(setting.slates)
                status, headers, body = await answer(reader, writer, sent)
                for _ in range(500):  # shadows are made after the answer
                    await asyncio.sleep(0)
                # Lists of many visitors are recorded in the order in which the kernels end.
                new = sorted(setting.slates[before:], key=attrgetter("recommendation_id"))
                slates = [_without_pace(encode(slate)) for slate in new]
                found.append(
                    {"scene": scene.name, "request": [sent.method, sent.path, sent.body.decode()],
                     "status": status, "headers": headers, "body": body, "slates": slates}
                )  # fmt: skip
    setting.line.close()
    return found


def _without_pace(slate: bytes) -> str:
    """A record as it stands on the topic, without the time that it took."""
    fields = orjson.loads(slate)
    fields.pop("latency_ms", None)
    return orjson.dumps(fields).decode()
