"""Origins of pages: CORS for the requests that they send, and the page behind a picture."""

from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send


class PageOrigins(CORSMiddleware):
    """CORS for requests with an `Origin` header.

    Only browsers send one for pages. Other clients read no CORS headers, so they need not wait for
    them.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        of_page = scope["type"] == "http" and any(name == b"origin" for name, _ in scope["headers"])
        await (super().__call__ if of_page else self.app)(scope, receive, send)


def origin_of_page(referer: str) -> str | None:
    """The origin of the page that shows a picture; browsers send `Referer` alone with it."""
    try:
        page = urlsplit(referer)
    except ValueError:
        return None
    return f"{page.scheme}://{page.netloc}" if page.netloc else None
