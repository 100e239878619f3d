"""Training as serving sees it: the champion's version, and the files of bundles, over any HTTP
transport.
"""

import json
from pathlib import Path

import httpx
from fastapi import FastAPI, Response

from slipstream.recommender.bundle import Bundle, save_bundle


class TrainingStub:
    """Answers from bundle directories. `away` refuses connections, `spoiled` names a file that is
    sent damaged.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.champion: str | None = None
        self.canary: str | None = None
        self.away = False
        self.spoiled = ""
        # Versions of which no files are kept.
        self.gone: set[str] = set()
        # Versions that were deleted after an erasure.
        self.deleted: set[str] = set()
        self.downloads: list[str] = []

    def publish(self, bundle: Bundle, version: str) -> None:
        """Register a bundle and make it champion."""
        self.register(bundle, version)
        self.champion = version

    def register(self, bundle: Bundle, version: str) -> None:
        """Register a bundle."""
        save_bundle(bundle, self.directory / version)

    def answer(self, path: str) -> tuple[int, bytes]:
        """Status and body of a GET."""
        alias = path.removeprefix("/v1/aliases/")
        if alias in ("champion", "canary"):
            version = self.champion if alias == "champion" else self.canary
            if version is None:
                return 404, b'{"code":"no_model"}'
            return 200, json.dumps(
                {"version": version, "aliases": [alias], "created_at": 1}
            ).encode()
        _, _, _, version, *file = path.split("/")
        if not file:
            return (410, b'{"code":"deleted"}') if version in self.deleted else (200, b"{}")
        name = file[-1]
        if version in self.gone | self.deleted or not (self.directory / version).is_dir():
            return 404, b'{"code":"no_model"}'
        self.downloads.append(name)
        body = (self.directory / version / name).read_bytes()
        return 200, body[:-1] + b"?" if name == self.spoiled else body

    def app(self) -> FastAPI:
        """The same over HTTP."""
        app = FastAPI()

        @app.get("/{path:path}")
        def answer(path: str) -> Response:
            status, body = (503, b"") if self.away else self.answer(f"/{path}")
            return Response(body, status)

        return app

    def transport(self) -> httpx.MockTransport:
        def handle(request: httpx.Request) -> httpx.Response:
            if self.away:
                raise httpx.ConnectError("refused", request=request)
            status, body = self.answer(request.url.path)
            return httpx.Response(status, content=body)

        return httpx.MockTransport(handle)
