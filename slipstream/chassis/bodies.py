"""Bodies of requests, read within limits, and their JSON schemas for the OpenAPI document.

The one content encoding is gzip. The number of values of a JSON body is bounded before it is
parsed. Large requests take turns, and work on them is done in slices, so that small requests have
their turn between them.
"""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final, TypeVar

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request

from slipstream.chassis.errors import InvalidRequestError, TooLargeError

# The window size that tells zlib the format.
_GZIP: Final = 16 + zlib.MAX_WBITS


async def read_body(request: Request, limit: int, encoding: str = "", hint: str = "") -> bytes:
    """The unpacked body of a request. `limit` holds for the bytes as they arrive and unpacked.
    Behind their number the error has `hint`.

    Raises:
        ClientDisconnect: The client left before all had arrived.
        InvalidRequestError: The encoding is not accepted, or the bytes are not in it.
        TooLargeError: There are more than `limit` bytes; raised as soon as they have been read.
    """
    # Starlette's place of what was read, which a hot route's request has from its beginning.
    body: bytes | None = getattr(request, "_body", None)
    if body is None:
        body = await _received(request, limit, hint)
    elif len(body) > limit:
        raise _too_large(limit, hint)
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise InvalidRequestError(
            "Send the body as it is or with Content-Encoding: gzip", code="unsupported_encoding"
        )
    unpacking = zlib.decompressobj(_GZIP)
    try:
        # A small gzip may hold gigabytes.
        unpacked = unpacking.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidRequestError(
            f"The body is not gzip: {error}", code="unsupported_encoding"
        ) from error
    if len(unpacked) > limit:
        raise _too_large(limit, hint)
    if not unpacking.eof:
        raise InvalidRequestError(
            "The body ends in the middle of its gzip", code="unsupported_encoding"
        )
    return unpacked


async def _received(request: Request, limit: int, hint: str) -> bytes:
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit, hint)
        chunks.append(chunk)
        more = message.get("more_body", False)
    return b"".join(chunks)


def _too_large(limit: int, hint: str) -> TooLargeError:
    return TooLargeError(f"The body has more than {limit} bytes{hint}")


def takes_gzip(accept_encoding: str) -> bool:
    """Whether an `Accept-Encoding` takes gzip."""
    takes: dict[str, bool] = {}
    for entry in accept_encoding.lower().split(","):
        coding, _, quality = entry.replace(" ", "").partition(";q=")
        takes[coding] = bool(quality.strip("0.")) or not quality
    return takes.get("gzip", takes.get("*", False))


def body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a body, whole: references inside one operation would have to name a place in
    the whole document, so the definitions replace them.

    The model may not contain itself.
    """
    schema = model.model_json_schema()
    whole: dict[str, Any] = _inlined(schema, schema.pop("$defs", {}))
    return whole


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, dict):
        if (reference := schema.get("$ref")) is not None:
            return _inlined(definitions[reference.rpartition("/")[2]], definitions)
        return {key: _inlined(value, definitions) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_inlined(value, definitions) for value in schema]
    return schema


# Bytes that stand before values. All values but the members of an object have one in front; a
# member has the comma before its name.
_BEFORE_VALUES: Final = (b",", b"[", b"{")


def refuse_many_values(raw: bytes, most: int, hint: str) -> None:
    """Raise `TooLargeError` for JSON that may hold more than `most` values.

    Half a megabyte can hold 170,000 empty lists, which take a hundred times as long as text of that
    size. Commas and brackets are counted as bytes, also within strings: 0.1 ms for half a megabyte.
    """
    if len(raw) <= most:
        return
    count = sum(map(raw.count, _BEFORE_VALUES))
    if count > most:
        raise TooLargeError(
            f"The body has up to {count} values, of which at most {most} are taken; {hint}",
            code="too_many_values",
        )


T = TypeVar("T")

# Longest time that one request holds the event loop before others have a turn.
SLICE_S: Final = 0.002


# A body of more bytes is a large one.
LARGE_BYTES: Final = 32_768


class LargeRequests:
    """Turns of large requests, one after another. Used in one event loop.

    With many at work, a small request would wait for a slice of each. It comes back to the event
    loop several times.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    def turn(self, large: bool) -> AbstractAsyncContextManager[None]:
        """The turn of a request: at once, or for a large one after those before it."""
        return self._lock if large else nullcontext()


async def in_slices(items: Iterable[T], slice_s: float = SLICE_S) -> AsyncIterator[T]:
    """The items, with a turn for others whenever they have taken `slice_s` seconds in all."""
    until = time.perf_counter() + slice_s
    for item in items:
        yield item
        if time.perf_counter() > until:
            await asyncio.sleep(0)
            until = time.perf_counter() + slice_s
