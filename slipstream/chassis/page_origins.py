"""CORS: which origins' pages may read a service's answers."""

from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

from slipstream.chassis.settings import listed


class PageOrigins(CORSMiddleware):
    """CORS for requests with an `Origin` header.

    Only browsers send one for pages. Other clients read no CORS headers, so they need not wait for
    them.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        of_page = scope["type"] == "http" and any(name == b"origin" for name, _ in scope["headers"])
        await (super().__call__ if of_page else self.app)(scope, receive, send)


def let_pages_read(app: FastAPI, origins: str, **rights: Any) -> None:
    """Let pages of these origins read the answers of an app of `create_service`.

    Args:
        app: The app.
        origins: Origins, separated by commas; `*` for all, empty for none.
        rights: Further options of `CORSMiddleware`.
    """
    if allowed := listed(origins):
        app.add_middleware(PageOrigins, allow_origins=allowed, **rights)
        app.state.hot_routes.pass_through(PageOrigins, allow_origins=allowed, **rights)
