"""Uploads to ingestion's REST API: bodies of limited size, and retries. It needs no Arrow."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import orjson

from slipstream.chassis.client import detail_of
from slipstream.chassis.pauses import pause_after

# Below the size that ingestion takes in one body.
MAX_BODY_BYTES = 400_000
ATTEMPTS = 10
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0


class ReplayError(RuntimeError):
    """Ingestion can't be reached, or refuses everything. The message says what to do."""


def bodies(encoded: Iterator[bytes], name: str, most: int) -> Iterator[tuple[bytes, int]]:
    """Bodies `{name: […]}` with their numbers of entries.

    A body has at most `most` entries and about `MAX_BODY_BYTES`.
    """

    def body() -> bytes:
        return b'{"%b":[%b]}' % (name.encode(), b",".join(gathered))

    gathered: list[bytes] = []
    size = 0
    for entry in encoded:
        if gathered and (len(gathered) >= most or size + len(entry) > MAX_BODY_BYTES):
            yield body(), len(gathered)
            gathered, size = [], 0
        gathered.append(entry)
        size += len(entry) + 1
    if gathered:
        yield body(), len(gathered)


async def post(
    client: httpx.AsyncClient, path: str, body: bytes, method: str = "POST"
) -> dict[str, Any]:
    """The verdicts on a body, after as many attempts as it takes."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            response = await client.request(
                method, path, content=body, headers={"Content-Type": "application/json"}
            )
        except httpx.TransportError as error:
            complaint, wait = f"ingestion at {client.base_url} can't be reached: {error!r}", None
        else:
            if response.status_code == 200:
                verdicts: dict[str, Any] = orjson.loads(response.content)
                return verdicts
            complaint = (
                f"ingestion at {client.base_url} answered {response.status_code} to {path}: "
                f"{detail_of(response) or response.text[:300]}"
            )
            if response.status_code not in (429, 502, 503, 504):
                raise ReplayError(complaint)
            given = response.headers.get("retry-after", "")
            wait = float(given) if given.isdigit() else None
        if attempt < ATTEMPTS:
            pause = pause_after(attempt, FIRST_PAUSE_S, LONGEST_PAUSE_S)
            await asyncio.sleep(pause if wait is None else min(wait, LONGEST_PAUSE_S))
    raise ReplayError(f"{complaint} (after {ATTEMPTS} attempts)")
