"""Files that pages load: the browser tracker, and the settings that Segment's SDK begins with.

`GET /v1/slipstream.js` is the tracker (docs/tracker.md). The SDK asks for a source's settings at
its `cdnURL` before it sends.
"""

import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from slipstream.chassis.bodies import takes_gzip

SCRIPT = Path(__file__).with_name("slipstream.js")
# A browser uses its copy for an hour. Then it asks whether the script has changed (304 if not), and
# for a day pages use the old copy meanwhile.
CACHE_CONTROL = "public, max-age=3600, stale-while-revalidate=86400"


@dataclass(frozen=True, slots=True)
class _Script:
    plain: bytes
    compressed: bytes
    etag: str


@cache
def _script() -> _Script:
    plain = SCRIPT.read_bytes()
    # Weak, since it stands for both the plain and the compressed text.
    return _Script(
        plain, gzip.compress(plain, mtime=0), f'W/"{hashlib.sha256(plain).hexdigest()[:20]}"'
    )


async def serve(request: Request) -> Response:
    """The script, or 304 for a browser that has it."""
    script = _script()
    headers = {
        "Cache-Control": CACHE_CONTROL,
        "ETag": script.etag,
        "Vary": "Accept-Encoding",
        # Pages of other origins load it, also those with cross-origin isolation.
        "Cross-Origin-Resource-Policy": "cross-origin",
        "X-Content-Type-Options": "nosniff",
    }
    if _names(request.headers.get("if-none-match", ""), script.etag):
        return Response(status_code=304, headers=headers)
    body = script.plain
    if takes_gzip(request.headers.get("accept-encoding", "")):
        body, headers["Content-Encoding"] = script.compressed, "gzip"
    return Response(body, headers=headers, media_type="text/javascript")


def _names(if_none_match: str, etag: str) -> bool:
    etags = {entry.strip().removeprefix("W/") for entry in if_none_match.split(",")}
    return "*" in etags or etag.removeprefix("W/") in etags


# Name or address with a port, as `Host` has it.
_HOST: Final = re.compile(r"[\w.-]{1,253}(:\d{1,5})?|\[[0-9a-fA-F:.]{2,45}\](:\d{1,5})?", re.ASCII)


def source_settings(write_key: str, scheme: str, host: str) -> bytes:
    """The settings as JSON: one destination, ingestion at the address that was asked.

    So a page that names `cdnURL` alone sends here, not to Segment. The SDK's counts of its own
    calls are switched off. A `host` that is no name leaves the address to the page.

    Args:
        scheme: `http` or `https`.
        host: The request's `Host`.
    """
    destination = {"apiKey": write_key}
    if _HOST.fullmatch(host):
        destination |= {"apiHost": f"{host}/v1", "protocol": scheme}
    return orjson.dumps({"integrations": {"Segment.io": destination}, "metrics": {"sampleRate": 0}})
