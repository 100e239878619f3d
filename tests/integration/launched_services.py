"""Services as processes of their own, as a test starts them."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from slipstream_cli.local.processes import Child, free_port

PATIENCE_S = 90.0

Launch = Callable[..., Child]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts a service with these settings and returns at once; its log is `<log>.log`, by default
    of the service's name. What runs at the end is killed.
    """
    launched: list[Child] = []

    def start(name: str, *, log: str = "", **settings: str) -> Child:
        environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith("SLIPSTREAM_")
            },
            "SLIPSTREAM_HTTP__PORT": str(port := free_port()),
            "SLIPSTREAM_LAKE__URI": str(tmp_path / "lake"),
            "SLIPSTREAM_ARTIFACTS__DIRECTORY": str(tmp_path / "models"),
            "SLIPSTREAM_INGESTION__WRITE_KEYS": "shop:s3cret",
            "SLIPSTREAM_REDIS__URL": f"redis://127.0.0.1:{free_port()}/0",
            **{f"SLIPSTREAM_{name.upper()}": value for name, value in settings.items()},
        }
        command = [sys.executable, "-m", "services", name]
        with (tmp_path / f"{log or name}.log").open("wb") as output:
            child = Child(
                name,
                port,
                command,
                lambda _: True,
                grace_s=60,
                environment=environment,
                output=output,
            )
            launched.append(child)
            child.launch()
        return child

    yield start
    for child in launched:
        child.kill()


def answer(child: Child, path: str, **arguments: Any) -> httpx.Response:
    """The answer, once the service listens."""
    deadline = time.monotonic() + PATIENCE_S
    method = arguments.pop("method", "GET")
    while True:
        assert child.alive, f"{child.name} ended with status {child.status}"
        assert time.monotonic() < deadline, f"{child.name} does not listen"
        try:
            return httpx.request(
                method,
                f"http://{child.address}{path}",
                timeout=30,
                **arguments,
            )
        except httpx.ConnectError:
            time.sleep(0.05)


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    """The lines of a service's log until now, without one that it is still writing."""
    whole, _, _ = (folder / f"{name}.log").read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]
