"""The console's pages: one document for every address of it, and its files.

They hold no data, so they are open. All of it is built from `console/` and is here as it was
committed (`make console`). Names of files contain a hash of their content, so that browsers keep
them for good; the document names the present ones.
"""

import gzip
import mimetypes
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from fastapi import APIRouter, FastAPI, Request, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from services.monitoring import runbook
from services.monitoring.settings import MonitoringSettings
from slipstream.chassis.access.guard import open_to_all
from slipstream.chassis.errors import NotFoundError
from slipstream.chassis.request_names import taking_any_name
from slipstream.contracts.spellings import did_you_mean

STATIC: Final = Path(__file__).parents[2] / "static"
# Bytes below which compression saves nothing.
_LEAST_GZIPPED: Final = 512
# Addresses of the console's pages. An id in one may hold slashes.
ADDRESSES: Final = (
    "/",
    "/flow",
    "/live",
    "/visitors",
    "/visitors/{visitor_id:path}",
    "/items",
    "/items/{item_id:path}",
)
_FOR_GOOD: Final = "public, max-age=31536000, immutable"


class StaticFile(NamedTuple):
    """A file to send: its bytes, the same compressed where that is smaller, and its type."""

    content: bytes
    gzipped: bytes | None
    media_type: str


def policy(ingestion: str = "") -> str:
    """The content security policy of a page; `ingestion` is the origin that the shop's tracker
    sends events to.
    """
    connect = f"'self' {ingestion}".strip()
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        f"connect-src {connect}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


@cache
def static_files() -> Mapping[str, StaticFile]:
    """All files of the console by their path below `static`. They are a part of the program."""
    found = {}
    for path in sorted(STATIC.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            # Without the time, so that every instance sends the same bytes.
            gzipped = gzip.compress(content, mtime=0) if len(content) > _LEAST_GZIPPED else None
            if gzipped is not None and len(gzipped) >= len(content):
                gzipped = None
            kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            found[path.relative_to(STATIC).as_posix()] = StaticFile(content, gzipped, kind)
    return found


class ConsoleBody(BaseModel):
    """What pages need to know before anyone has signed in."""

    shop: bool = Field(description="whether there is a shop at `/shop`")
    ingestion_url: str | None = Field(description="where the shop's events go; null without it")
    browser_key: str | None = Field(description="key of the shop's events; null without one")
    sign_in: bool = Field(description="whether credentials are needed")
    version: str


pages = APIRouter(tags=["page"], route_class=taking_any_name("a link to a page may carry anything"))
router = APIRouter(prefix="/v1", tags=["page"])


@router.get("/console", summary="What the console's pages need to know")
@open_to_all
def get_console(request: Request) -> ConsoleBody:
    """Open: it holds what every page shows."""
    settings: MonitoringSettings = request.app.state.settings
    own = settings.monitoring
    return ConsoleBody(
        shop=own.shop,
        ingestion_url=_ingestion_url(settings) if own.shop else None,
        browser_key=(own.shop_key or None) if own.shop else None,
        sign_in=request.app.state.verifier.required,
        version=version("slipstream"),
    )


@pages.get("/shop", include_in_schema=False)
@open_to_all
async def shop_page(request: Request) -> Response:
    """The shop, which may send events to ingestion."""
    settings: MonitoringSettings = request.app.state.settings
    if not settings.monitoring.shop:
        if _is_browser(request):
            return _document(request, policy(), 404)
        raise NotFoundError(
            "There is no shop here: SLIPSTREAM_MONITORING__SHOP=true on the server opens it"
        )
    return _document(request, policy(_origin(_ingestion_url(settings))))


@open_to_all
async def page(request: Request) -> Response:
    """A page of the console. Its script reads the address."""
    return _document(request, policy())


for address in ADDRESSES:
    pages.add_api_route(address, page, methods=["GET"], include_in_schema=False)


@pages.get("/assets/{name:path}", include_in_schema=False)
@open_to_all
async def asset(request: Request, name: str) -> Response:
    """A file of the pages."""
    file = static_files().get(f"assets/{name}")
    if file is None:
        raise NotFoundError(f"The console has no file {name[:200]!r}")
    return _sent(request, file, {"Cache-Control": _FOR_GOOD})


@pages.get(runbook.PATH, include_in_schema=False)
@pages.get(runbook.PATH + "/{name}", include_in_schema=False)
@open_to_all
async def runbook_page(name: str = "README") -> Response:
    """A page of the runbook as text, open like the console: who is on call may have no key."""
    known, name = runbook.pages(), name.removesuffix(".md")
    if name not in known:
        raise NotFoundError(f"The runbook has no page {name[:200]!r}: {did_you_mean(name, known)}")
    headers = {"X-Content-Type-Options": "nosniff"}
    return Response(known[name], headers=headers, media_type="text/plain")


def answer_browsers(app: FastAPI) -> None:
    """Answer a browser at an address without a route by the document, which says so."""
    otherwise: Any = app.exception_handlers[HTTPException]

    async def handle(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        of_api = request.url.path.startswith("/v1/")
        if error.status_code == 404 and _is_browser(request) and not of_api:
            return _document(request, policy(), 404)
        answer: Response = await otherwise(request, error)
        return answer

    app.add_exception_handler(HTTPException, handle)


def _is_browser(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _document(request: Request, content_policy: str, status: int = 200) -> Response:
    headers = {
        "Content-Security-Policy": content_policy,
        "Cache-Control": "no-cache",
        # A request by session may have to name its page by this.
        "Referrer-Policy": "same-origin",
    }
    return _sent(request, static_files()["index.html"], headers, status)


def _sent(
    request: Request, file: StaticFile, headers: dict[str, str], status: int = 200
) -> Response:
    headers |= {"X-Content-Type-Options": "nosniff", "Vary": "Accept-Encoding"}
    accepted = request.headers.get("accept-encoding", "")
    if file.gzipped is not None and "gzip" in accepted:
        headers["Content-Encoding"] = "gzip"
        return Response(file.gzipped, status, headers, file.media_type)
    return Response(file.content, status, headers, file.media_type)


def _ingestion_url(settings: MonitoringSettings) -> str:
    return settings.monitoring.shop_ingestion_url or settings.peers.ingestion_url


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
