"""A Compose project of the repository's own docker-compose.yml, with its containers and a client
for each service.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.services import SERVICES
from slipstream.stores.lake import Lake
from slipstream_cli.local.processes import is_free

ROOT = Path(__file__).parents[2]
# Another than the file's, so that the volumes of whoever uses it stay as they are.
NAME = "slipstream-demo"
# The files of the project, and the one that is laid over them to scale out.
FILES = os.environ.get("COMPOSE_FILE", "docker-compose.yml")
SCALED = os.pathsep.join((FILES, "deploy/compose/scale.yml"))
WRITE_KEY = "dev"
NAMESPACE = "slipstream"
# What an .env file or the shell may have otherwise, and the test relies on.
ENVIRONMENT = {
    "SLIPSTREAM_INGESTION__WRITE_KEYS": f"test:{WRITE_KEY}",
    "SLIPSTREAM_HTTP__API_TOKEN": "",
    "SLIPSTREAM_NAMESPACE": NAMESPACE,
}
# Ports of this machine that the file publishes: the services', and Prometheus'.
PORTS = (*(service.port for service in SERVICES.values()), 9090)
OLDEST_COMPOSE = (2, 24)


class ComposeError(RuntimeError):
    """Docker is absent, or refuses a command; the text says what is needed or what it said."""


# Prints the answer to a GET, from within a container.
_GET = """
import sys, urllib.request
sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1], timeout=10).read())
"""


@dataclass(frozen=True)
class Container:
    """A container as the engine tells of it now. Times are seconds since the epoch."""

    service: str
    # of the service's replicas, from 1
    number: int
    id: str
    pid: int
    healthy: bool
    # how often the engine started it again by itself
    restarts: int
    started: float
    # when its process last ended; 0 where none has
    ended: float

    @property
    def name(self) -> str:
        """Its name within the project."""
        return f"{self.service}-{self.number}"


class Project:
    """The containers of docker-compose.yml (or of COMPOSE_FILE) under a project name of the test's
    own.
    """

    def __init__(self) -> None:
        self._files = FILES
        if found := lacking_programs():
            raise ComposeError(f"this is lacking: {'; '.join(found)}")
        self.clients = {
            name: httpx.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=10)
            for name, service in SERVICES.items()
        }

    def get(self, service: str, path: str, **parameters: Any) -> Any:
        """The JSON body of a GET that succeeds."""
        return self.clients[service].get(path, params=parameters).raise_for_status().json()

    def post(self, service: str, path: str, body: Any) -> Any:
        """The JSON body of a POST that succeeds; to ingestion, with the write key."""
        auth = httpx.BasicAuth(WRITE_KEY, "") if service == "ingestion" else httpx.Auth()
        return self.clients[service].post(path, json=body, auth=auth).raise_for_status().json()

    def build(self) -> None:
        """Build the five images; what is built already is taken from the engine's cache."""
        self._compose("build")

    def up(self) -> None:
        """Start everything; returns once all containers are healthy."""
        self._compose("up", "--detach", "--wait")

    def scale_out(self, replicas: Mapping[str, int]) -> None:
        """Run several of some services, behind the proxy; returns once all are healthy."""
        self._files = SCALED
        scales = [f"--scale={service}={count}" for service, count in replicas.items()]
        self._compose("up", "--detach", "--build", "--wait", *scales)

    def down(self) -> None:
        """Remove the containers, and the volumes with all their data."""
        self._compose("down", "--volumes", "--remove-orphans", "--timeout", "30")

    def stop(self, service: str) -> None:
        """Stop a service as `docker compose stop` does: SIGTERM, and time to end."""
        self._compose("stop", service)

    def show_logs(self, lines: int = 40) -> None:
        """Print the end of each container's log."""
        self._compose("logs", "--no-color", "--tail", str(lines))

    def containers(self) -> dict[str, Container]:
        """The containers that run until they are stopped, by their names within the project."""
        listed = self._output(
            "docker", "compose", "--project-name", NAME, "ps", "--all", "--quiet"
        ).split()
        described = json.loads(self._output("docker", "inspect", *listed)) if listed else []
        containers = [_container(each) for each in described if _goes_on(each)]
        return {container.name: container for container in containers}

    def replicas(self, service: str) -> list[Container]:
        """The containers of a service."""
        return [each for each in self.containers().values() if each.service == service]

    def each(self, service: str, path: str) -> list[Any]:
        """The JSON body of a GET of each replica, asked within its container."""
        url = f"http://127.0.0.1:{SERVICES[service].port}{path}"
        return [
            json.loads(self._output("docker", "exec", each.id, "python", "-c", _GET, url))
            for each in self.replicas(service)
        ]

    def crash(self, name: str) -> None:
        """End a container's process with SIGKILL, as the kernel does when memory runs out: the
        restart policy starts it again.

        After `docker kill` it would not, since the engine takes that for the wish of whoever typed
        it. The process is killed from a container that shares the machine's processes, so that
        neither root nor Linux is needed here.
        """
        target = self.containers()[name]
        image = self._output(
            "docker", "inspect", "--format", "{{.Image}}", self.replicas("features")[0].id
        ).strip()
        kill = f"import os; os.kill({target.pid}, 9)"
        self._output(
            *("docker", "run", "--rm", "--pid", "host", "--user", "0", "--network", "none"),
            *("--entrypoint", "python", image, "-c", kill),
        )

    def lake(self, folder: Path) -> Lake:
        """A copy of the lake in `folder`, as it is now."""
        self._output(
            "docker", "cp", "--quiet", f"{self.replicas('features')[0].id}:/data/lake", str(folder)
        )
        return Lake(LakeSettings(uri=str(folder / "lake")), NAMESPACE)

    @property
    def _environment(self) -> dict[str, str]:
        return os.environ | ENVIRONMENT | {"COMPOSE_FILE": self._files}

    def _compose(self, *arguments: str) -> None:
        """Run a command of compose, its output shown."""
        command = ["docker", "compose", "--project-name", NAME, "--progress", "plain", *arguments]
        if subprocess.run(command, cwd=ROOT, env=self._environment).returncode:
            raise ComposeError(f"`{' '.join(command)}` failed, for the reason above")

    def _output(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment, capture_output=True, text=True
        )
        if done.returncode:
            raise ComposeError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
        return done.stdout


@contextmanager
def from_nothing(*, keep: bool) -> Iterator[Project]:
    """A project without containers and volumes. Shows the logs of one that fails; `keep` leaves it
    running at the end.
    """
    project = Project()
    project.down()
    if used := [str(port) for port in PORTS if not is_free(port)]:
        raise ComposeError(f"other programs listen on the ports {', '.join(used)}: end them first")
    try:
        yield project
    except Exception:
        project.show_logs()
        raise
    finally:
        for client in project.clients.values():
            client.close()
        if not keep:
            project.down()


def lacking_programs() -> list[str]:
    """Name the programs that the demo lacks on this machine, each with the way to get it."""
    found = []
    if _answer("docker", "info") is None:
        found.append("a Docker engine that `docker info` reaches (docs.docker.com/engine/install)")
    version = _answer("docker", "compose", "version", "--short") or ""
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_COMPOSE:
        oldest = ".".join(map(str, OLDEST_COMPOSE))
        found.append(f"Docker Compose {oldest} or newer (docs.docker.com/compose/install)")
    return found


def _answer(*command: str) -> str | None:
    """The output of a command; None where it fails, or there is no such program."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True)
    return None if done.returncode else done.stdout


def _goes_on(described: dict[str, Any]) -> bool:
    """Whether the container is none of a job, which ends."""
    return bool(described["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped")


def _container(described: dict[str, Any]) -> Container:
    state, labels = described["State"], described["Config"]["Labels"]
    return Container(
        labels["com.docker.compose.service"],
        int(labels["com.docker.compose.container-number"]),
        described["Id"],
        state["Pid"],
        state["Running"] and state.get("Health", {}).get("Status") == "healthy",
        described["RestartCount"],
        _seconds(state["StartedAt"]),
        _seconds(state["FinishedAt"]),
    )


def _seconds(text: str) -> float:
    # The engine's year 1 says "never".
    return 0.0 if text.startswith("0001") else datetime.fromisoformat(text).timestamp()
