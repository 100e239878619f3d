"""Slipstream as a user has it: `slipstream up` in a process of its own, and its services over REST.

Its servers are the supervisor's embedded ones, or those of `tests.servers.outside`: `Outside` is
handed to whoever starts it.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from slipstream.contracts.services import SERVICES
from slipstream_cli.local.data_folder import running_stack
from tests.servers import Outside

START_LIMIT_S = 180.0
# What the programs of the embedded servers begin with, and what they are.
EMBEDDED = {"tansu": "broker", "valkey-server": "redis"}
T = TypeVar("T")


class Stack:
    """A running `slipstream up`, with a client for each service."""

    def __init__(
        self,
        directory: Path,
        process: subprocess.Popen[str],
        urls: dict[str, str],
        outside: Outside,
    ) -> None:
        self.directory, self.process, self.urls, self.outside = directory, process, urls, outside
        self.write_key = urls["write_key"]
        self.clients = {name: httpx.Client(base_url=urls[name], timeout=30) for name in SERVICES}

    def get(self, service: str, path: str, **parameters: Any) -> Any:
        """The JSON body of a GET that succeeds."""
        return self.clients[service].get(path, params=parameters).raise_for_status().json()

    def post(self, service: str, path: str, body: Any) -> Any:
        """The JSON body of a POST that succeeds; to ingestion, with the write key."""
        auth = httpx.BasicAuth(self.write_key, "") if service == "ingestion" else httpx.Auth()
        return self.clients[service].post(path, json=body, auth=auth).raise_for_status().json()

    def put(self, service: str, path: str, body: Any) -> Any:
        """The JSON body of a PUT that succeeds."""
        return self.clients[service].put(path, json=body).raise_for_status().json()

    @property
    def children(self) -> dict[str, int]:
        """Process ids of what the supervisor runs, by name: the five services, and `broker` and
        `redis` if embedded.
        """
        return dict(children(self.process.pid))

    @property
    def processes(self) -> dict[str, int]:
        """`children`, with the servers in any case."""
        return {**self.children, **self.outside.pids}

    def kill(self, name: str) -> int:
        """Kill one of `processes` outright, and return its process id."""
        killed = self.processes[name]
        os.kill(killed, signal.SIGKILL)
        return killed

    def has_another(self, name: str, killed: int) -> bool:
        """Whether a process that was killed has a successor."""
        return self.children.get(name, killed) != killed

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it as a container's end would, or with SIGINT as Ctrl-C; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(120)

    def close(self) -> None:
        """Close the clients."""
        for client in self.clients.values():
            client.close()


@contextmanager
def launched(
    directory: Path, outside: Outside, **settings: str
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """`slipstream up` on `directory` and on free ports, which may not be ready yet, and the file
    with what it prints. `settings` are environment variables. Ends it, whatever happened.
    """
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("SLIPSTREAM_")
    }
    output = directory / "up.log"
    with output.open("w") as file:
        command = [
            sys.executable,
            "-m",
            "slipstream_cli",
            "up",
            "--any-ports",
            "--data-dir",
            str(directory),
        ]
        process = subprocess.Popen(
            command,
            env={**inherited, **outside.environment, **settings},
            stdout=file,
            stderr=file,
            text=True,
        )
    try:
        yield process, output
    except BaseException:
        sys.stderr.write(output.read_text())
        raise
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@contextmanager
def running(directory: Path, outside: Outside, **settings: str) -> Iterator[Stack]:
    """A running Slipstream, started as `launched` does."""
    with launched(directory, outside, **settings) as (process, output):
        deadline = time.monotonic() + START_LIMIT_S
        while "Ctrl-C stops everything" not in output.read_text():
            assert process.poll() is None and time.monotonic() < deadline, output.read_text()
            time.sleep(0.1)
        stack = Stack(directory, process, running_stack(directory), outside)
        try:
            yield stack
        finally:
            stack.close()


def wait_for(condition: Callable[[], T | None], what: str, limit_s: float = 60.0) -> T:
    """What `condition` returns once it is neither None nor False; connection failures count as not
    yet.
    """
    deadline = time.monotonic() + limit_s
    while True:
        try:
            found = condition()
            if found is not None and found is not False:
                return found
        except (httpx.TransportError, httpx.HTTPStatusError) as error:
            last: object = error
        else:
            last = found
        assert time.monotonic() < deadline, f"waited {limit_s:g} s for {what}; last: {last}"
        time.sleep(0.02)


def alive(pids: list[int]) -> list[int]:
    """Those of the processes that still run. A zombie has ended, and only waits for the machine's
    init.
    """
    return [pid for pid in pids if _state(pid) not in ("", "Z", "X")]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(pid: int) -> Iterator[tuple[str, int]]:
    """Name and process id of all that the process has started, and what these have; what ends
    meanwhile is left out.
    """
    for task in _listed(Path(f"/proc/{pid}/task")):
        for child in _read(task / "children").split():
            arguments = _read(Path(f"/proc/{child}/cmdline")).split("\0")
            if arguments == [""]:
                continue
            yield (
                arguments[3] if arguments[1:3] == ["-m", "services"] else _server(arguments[0]),
                int(child),
            )
            yield from children(int(child))


def _server(program: str) -> str:
    # Valkey puts its address behind its name, and the broker its version.
    name = Path(program).name.split()[0]
    return next((role for prefix, role in EMBEDDED.items() if name.startswith(prefix)), name)


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def caught_up(stack: Stack) -> dict[str, Any] | None:
    """The status of features once it has caught up."""
    status: dict[str, Any] = stack.get("features", "/v1/status")
    return status if status["caught_up"] else None


def made_again(stack: Stack, answer: dict[str, Any]) -> dict[str, Any]:
    """The replay of an answer, once its slate is in the lake."""

    def made() -> dict[str, Any] | None:
        path = f"/v1/answers/{answer['recommendation_id']}"
        response = stack.clients["serving"].get(path)
        if response.status_code == 404:
            return None
        return dict(response.raise_for_status().json())

    return wait_for(made, "the answer to be made again")
