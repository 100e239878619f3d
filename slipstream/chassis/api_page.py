"""The page of a service's API for people: Swagger UI, with all files from here.

A CDN would learn who reads the page, and could change it.
"""

from importlib.resources import files
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse

from slipstream.chassis.access.guard import open_to_all
from slipstream.chassis.errors import NotFoundError

PATH: Final = "/docs"
# Swagger UI's part of the package, whose own app would also serve another page.
_FOLDER: Final = Path(str(files("fastapi_offline"))) / "static"
_SCRIPT, _STYLE, _ICON = "swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"
# FastAPI's page begins Swagger UI in a line of its own, which sets styles and has pictures inside.
_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; frame-ancestors 'none'"
)

router = APIRouter(prefix=PATH, include_in_schema=False)


@router.get("")
@open_to_all
async def page(request: Request) -> HTMLResponse:
    """The page, which reads `/openapi.json`."""
    shown = get_swagger_ui_html(
        openapi_url=request.app.openapi_url,
        title=request.app.title,
        swagger_js_url=f"{PATH}/{_SCRIPT}",
        swagger_css_url=f"{PATH}/{_STYLE}",
        swagger_favicon_url=f"{PATH}/{_ICON}",
    )
    shown.headers["Content-Security-Policy"] = _POLICY
    return shown


@router.get("/{name}")
@open_to_all
async def file(name: str) -> FileResponse:
    """A file of the page."""
    if name not in (_SCRIPT, _STYLE, _ICON):
        raise NotFoundError(f"{PATH} has no file {name!r}")
    return FileResponse(_FOLDER / name)
