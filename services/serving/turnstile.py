"""The gate between the answers to one request for many lists."""

import asyncio


class Turnstile:
    """A gate that lets one task on in each turn of the event loop, in the order of arrival."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def passed(self) -> None:
        async with self._lock:
            await asyncio.sleep(0)
