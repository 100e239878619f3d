"""The browser tracker, `GET /v1/slipstream.js`: a script that shops load from here
(docs/tracker.md).
"""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

SCRIPT = Path(__file__).with_name("slipstream.js")
# An hour without asking; then a question that an unchanged script answers with 304, and for a day a
# page need not wait for that.
CACHE_CONTROL = "public, max-age=3600, stale-while-revalidate=86400"


@dataclass(frozen=True, slots=True)
class _Script:
    plain: bytes
    compressed: bytes
    etag: str


@cache
def _script() -> _Script:
    plain = SCRIPT.read_bytes()
    # Weak, since it names the text whether it travels compressed or not.
    return _Script(
        plain, gzip.compress(plain, mtime=0), f'W/"{hashlib.sha256(plain).hexdigest()[:20]}"'
    )


async def serve(request: Request) -> Response:
    """The script; 304 to a browser that has it."""
    script = _script()
    headers = {
        "Cache-Control": CACHE_CONTROL,
        "ETag": script.etag,
        "Vary": "Accept-Encoding",
        # Pages of other origins load it, also those that isolate themselves from others.
        "Cross-Origin-Resource-Policy": "cross-origin",
        "X-Content-Type-Options": "nosniff",
    }
    if _names(request.headers.get("if-none-match", ""), script.etag):
        return Response(status_code=304, headers=headers)
    body = script.plain
    if _takes_gzip(request.headers.get("accept-encoding", "")):
        body, headers["Content-Encoding"] = script.compressed, "gzip"
    return Response(body, headers=headers, media_type="text/javascript")


def _names(if_none_match: str, etag: str) -> bool:
    held = {entry.strip().removeprefix("W/") for entry in if_none_match.split(",")}
    return "*" in held or etag.removeprefix("W/") in held


def _takes_gzip(accept_encoding: str) -> bool:
    for entry in accept_encoding.lower().split(","):
        coding, _, quality = entry.replace(" ", "").partition(";q=")
        if coding in ("gzip", "*"):
            return quality.strip("0.") != "" or not quality
    return False
