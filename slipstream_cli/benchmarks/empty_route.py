"""The ceiling of every HTTP benchmark: a FastAPI route that does nothing, under the server settings
of the services.

`python -m slipstream_cli.benchmarks.empty_route PORT` serves it until it is stopped.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI

from slipstream.chassis.app import serve
from slipstream.chassis.settings import HttpSettings, ServiceSettings
from slipstream_cli.benchmarks.load import answering
from slipstream_cli.local.processes import Child, free_port


def create_app() -> FastAPI:
    """An app with one route, GET and POST /, that answers `{}`."""
    app = FastAPI()

    @app.get("/")
    @app.post("/")
    async def empty() -> dict[str, str]:
        return {}

    return app


@contextmanager
def running_empty_route() -> Iterator[str]:
    """The route's URL, served by a process of its own while the context lasts."""
    port = free_port()
    command = [sys.executable, "-m", "slipstream_cli.benchmarks.empty_route", str(port)]
    server = Child("empty route", port, command, answering("/"), grace_s=2.0).start(timeout_s=30)
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.kill()


if __name__ == "__main__":
    serve(create_app(), ServiceSettings(http=HttpSettings(port=int(sys.argv[1]))), "ingestion")
