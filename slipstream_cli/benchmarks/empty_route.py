"""The ceiling of HTTP benchmarks: an empty FastAPI route under the services' server settings.

`python -m slipstream_cli.benchmarks.empty_route PORT` serves it until it is stopped.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI

from slipstream.chassis.server import serve
from slipstream.chassis.settings import HttpSettings, ServiceSettings
from slipstream_cli.benchmarks.load import answering
from slipstream_cli.local.processes import Child, free_port


def create_app() -> FastAPI:
    """Build an app with one route, GET and POST /, that answers `{}`."""
    app = FastAPI()

    @app.get("/")
    @app.post("/")
    async def empty() -> dict[str, str]:
        return {}

    return app


@contextmanager
def running_empty_route() -> Iterator[str]:
    """Serve the route from a separate process for the block; yield its URL."""
    port = free_port()
    command = [sys.executable, "-m", "slipstream_cli.benchmarks.empty_route", str(port)]
    server = Child("empty route", port, command, answering("/"), grace_s=2.0).start(timeout_s=30)
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.kill()


if __name__ == "__main__":
    serve(create_app(), ServiceSettings(http=HttpSettings(port=int(sys.argv[1]))), "ingestion")
