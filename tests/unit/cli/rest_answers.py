"""Services as commands see them: what a test lets them answer, and commands that ask."""

import json
from typing import Any

import httpx
from click.testing import CliRunner, Result

from slipstream_cli.__main__ import cli


class InTurn:
    """Answers that are given one after the other."""

    def __init__(self, *answers: Any) -> None:
        self.answers = iter(answers)


class Answers:
    """Answers of every service by "METHOD path": a body, or a status and a body, or several of
    these `InTurn`. Anything else can't be reached. `heard` is what was asked, with the bodies of
    POSTs, and `queries` with which parameters.
    """

    def __init__(self) -> None:
        self.by_request: dict[str, Any] = {}
        self.heard: list[tuple[str, Any]] = []
        self.queries: list[str] = []
        self.urls: set[str] = set()

    def transport(self) -> httpx.MockTransport:
        def handle(request: httpx.Request) -> httpx.Response:
            asked = f"{request.method} {request.url.raw_path.decode().partition('?')[0]}"
            self.queries.append(request.url.query.decode())
            self.heard.append((asked, json.loads(request.content or b"null")))
            self.urls.add(f"{request.url.scheme}://{request.url.netloc.decode()}")
            found = self.by_request.get(asked)
            if isinstance(found, InTurn):
                found = next(found.answers)
            if found is None:
                raise httpx.ConnectError("refused", request=request)
            status, body = found if isinstance(found, tuple) else (200, found)
            return httpx.Response(status, json=body)

        return httpx.MockTransport(handle)


def problem(status: int, detail: str) -> tuple[int, dict[str, Any]]:
    """An error as services answer it."""
    return status, {"title": "No", "status": status, "detail": detail, "code": "some_code"}


def asked(service: str, *arguments: str) -> Result:
    """The result of a command that asks this service."""
    return CliRunner().invoke(cli, [*arguments, "--url", f"http://{service}"])
