"""Hostile clients: each sends its kind of request again and again, as fast as it is answered."""

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import Mapping

import uvloop

from tests.hostile.attacks import Attack, attacks

# Between two requests of a client: they come from far away, and not from this machine's processor.
PAUSE_S = 0.1
_TIMEOUT_S = 60.0


def attack(ports: Mapping[str, int], seconds: float, kinds: str) -> dict[str, Counter[str]]:
    """Attack the services on these ports for `seconds`, by the kinds whose names match the pattern;
    returns what each kind was answered.
    """
    os.nice(10)
    return uvloop.run(_attack(ports, seconds, re.compile(kinds)))


async def _attack(
    ports: Mapping[str, int], seconds: float, kinds: re.Pattern[str]
) -> dict[str, Counter[str]]:
    end = time.monotonic() + seconds
    told: dict[str, Counter[str]] = {}
    clients = []
    for name, kind in attacks().items():
        if not kinds.search(name):
            continue
        told[name] = Counter()
        clients += [
            _client(kind, ports[kind.service], end, told[name]) for _ in range(kind.clients)
        ]
    await asyncio.gather(*clients)
    return told


async def _client(kind: Attack, port: int, end: float, told: Counter[str]) -> None:
    while time.monotonic() < end:
        try:
            told[await asyncio.wait_for(_exchange(kind, port, end), _TIMEOUT_S)] += 1
        except TimeoutError:
            told["no answer"] += 1
        except OSError:
            told["no connection"] += 1
        await asyncio.sleep(PAUSE_S)


async def _exchange(kind: Attack, port: int, end: float) -> str:
    """Send one request; returns the status of its answer, or how it ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.ensure_future(reader.readline())
    try:
        for chunk in kind.chunks():
            if answer.done() or time.monotonic() > end:
                break
            writer.write(chunk)
            await writer.drain()
            if kind.pause_s:
                await asyncio.wait([answer], timeout=kind.pause_s)
        if time.monotonic() > end and not answer.done():
            return "cut off"
        words = (await answer).split()
        return words[1].decode() if len(words) > 1 else "closed"
    except ConnectionError:
        return "closed"
    finally:
        answer.cancel()
        writer.transport.abort()
