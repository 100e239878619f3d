"""Bodies of requests: unpacked from gzip, or read from the query of a pixel."""

import base64
import binascii
import zlib

import orjson

from services.ingestion.budgets import setting
from slipstream.chassis.errors import InvalidRequestError, TooLargeError

_GZIP = 16 + zlib.MAX_WBITS


def too_large(limit: int) -> TooLargeError:
    return TooLargeError(
        f"The body has more than {limit} bytes ({setting('max_body_bytes')}); send smaller batches"
    )


def unpacked(raw: bytes, encoding: str, limit: int) -> bytes:
    """The body that was sent with this `Content-Encoding`.

    Never unpacks more than `limit` bytes, since a small gzip may hold gigabytes.
    """
    if encoding == "identity":
        return raw
    if encoding != "gzip":
        raise InvalidRequestError(
            "Send the body as it is or with Content-Encoding: gzip", code="unsupported_encoding"
        )
    unpacking = zlib.decompressobj(_GZIP)
    try:
        body = unpacking.decompress(raw, limit + 1)
    except zlib.error as error:
        raise InvalidRequestError(
            f"The body is not gzip: {error}", code="unsupported_encoding"
        ) from error
    if len(body) > limit:
        raise too_large(limit)
    if not unpacking.eof:
        raise InvalidRequestError(
            "The body ends in the middle of its gzip", code="unsupported_encoding"
        )
    return body


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
