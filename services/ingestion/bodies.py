"""Bodies of requests: unpacked from gzip, or read from the query of a pixel."""

import base64
import binascii
from typing import Final

import orjson
from starlette.requests import Request

from services.ingestion.budgets import setting
from slipstream.chassis.bodies import read_body
from slipstream.chassis.errors import InvalidRequestError

_SEND_LESS: Final = f" ({setting('max_body_bytes')}); send smaller batches"


async def read(request: Request, limit: int, encoding: str) -> bytes:
    """The body of a call, unpacked where it is gzip, of at most `limit` bytes."""
    return await read_body(request, limit, encoding, hint=_SEND_LESS)


def of_pixel(data: str, write_key: str | None) -> bytes:
    """The message in a pixel's `data`, which is JSON or its Base64 in either alphabet.

    Without a type it is a track call. Raises `InvalidRequestError` for anything else.
    """
    text = data.strip()
    try:
        if text.startswith("{"):
            message = orjson.loads(text)
        else:
            # A plus that was not escaped in the query arrives as a space.
            text = text.replace(" ", "+").replace("-", "+").replace("_", "/").rstrip("=")
            message = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError(
            "data must be a message as JSON, or as the Base64 of it", code="invalid_json"
        ) from error
    if type(message) is not dict:
        raise InvalidRequestError("data must be a JSON object", code="invalid_body")
    message.setdefault("type", "track")
    if write_key:
        message["writeKey"] = write_key
    try:
        return orjson.dumps(message)
    except orjson.JSONEncodeError as error:
        raise InvalidRequestError(f"data can't be read: {error}", code="invalid_json") from error
