"""Questions to the other services about readiness, champion and progress.

Each has a deadline; none raises.
"""

import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import httpx
from pydantic import BaseModel, ValidationError

from slipstream.chassis.client import Peer, PeerError
from slipstream.chassis.logging import get_logger
from slipstream.contracts.rest import ModelVersion, Run

log = get_logger(__name__)

RUNS_SHOWN = 5


class ServiceState(BaseModel):
    """A service's readiness: `ready`, `unready` (it names the checks that are down), or `away`.

    One that may be scaled to zero is `asleep` while no instance takes a connection. The instance
    that answered has started at `started_at` (ms).
    """

    name: str
    state: Literal["ready", "unready", "asleep", "away"]
    down: list[str] = []
    detail: str = ""
    latency_ms: float
    started_at: int | None = None


class FeaturesStatus(BaseModel):
    """The progress of features: records applied and left, event time, and whether it caught up."""

    applied: int
    lag: int
    watermark: int | None = None
    caught_up: bool


class Champion(BaseModel):
    """The model in service."""

    model: ModelVersion


class Training(BaseModel):
    """Training's answers. With `reached` false, a missing champion means nothing.

    `detail` says why there is no answer.
    """

    reached: bool
    detail: str = ""
    champion: Champion | None = None
    runs: list[Run] = []


class Probes:
    """The questions to all services at once. One thread at a time may ask."""

    def __init__(
        self,
        urls: Mapping[str, str],
        training: Peer,
        features: Peer,
        *,
        timeout_s: float,
        may_sleep: Collection[str] = (),
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._urls = urls
        self._may_sleep = may_sleep
        self._training = training
        self._features = features
        self._http = httpx.Client(timeout=timeout_s, transport=transport)
        self._threads = ThreadPoolExecutor(len(urls) + 2, "probe")

    def ask(self) -> tuple[list[ServiceState], Training, FeaturesStatus | None]:
        """The state of every service in the order of the URLs, and training's and features'
        answers.

        It takes a few deadlines at most.
        """
        training = self._threads.submit(self._ask_training)
        features = self._threads.submit(self._ask_features)
        services = list(self._threads.map(self._ask_ready, self._urls.items()))
        return services, training.result(), features.result()

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        for client in (self._http, self._training, self._features):
            client.close()

    def _ask_ready(self, service: tuple[str, str]) -> ServiceState:
        name, url = service
        asked = time.perf_counter()
        try:
            response = self._http.get(f"{url}/health/ready")
            latency_ms = (time.perf_counter() - asked) * 1000
            body = response.json()
            checks: dict[str, str] = body["checks"]
            started_at = int(body["started_at"])
        except httpx.HTTPError as error:
            # A Service without a pod refuses the connection, or a network plug-in drops it.
            unconnected = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            return ServiceState(
                name=name,
                state="asleep" if unconnected and name in self._may_sleep else "away",
                detail=f"{type(error).__name__}: {error}",
                latency_ms=0.0,
            )
        except (ValueError, KeyError, TypeError):
            detail = f"{response.status_code} without a readiness body"
            return ServiceState(name=name, state="away", detail=detail, latency_ms=latency_ms)
        down = {check: verdict for check, verdict in checks.items() if verdict != "ok"}
        return ServiceState(
            name=name,
            state="unready" if down or response.status_code != 200 else "ready",
            down=sorted(down),
            detail="; ".join(f"{check}: {verdict}" for check, verdict in sorted(down.items())),
            latency_ms=latency_ms,
            started_at=started_at,
        )

    def _ask_training(self) -> Training:
        try:
            runs = [
                Run.model_validate(run)
                for run in self._training.get("/v1/runs", limit=RUNS_SHOWN)["items"]
            ]
            try:
                model = ModelVersion.model_validate(self._training.get("/v1/aliases/champion"))
            except PeerError as error:
                if error.status != 404:
                    raise
                return Training(reached=True, runs=runs)
            champion = Champion(model=model)
            return Training(reached=True, champion=champion, runs=runs)
        except (PeerError, ValidationError, ValueError, KeyError, TypeError) as error:
            return Training(reached=False, detail=_words(error))

    def _ask_features(self) -> FeaturesStatus | None:
        try:
            return FeaturesStatus.model_validate(self._features.get("/v1/status"))
        except (PeerError, ValidationError, ValueError) as error:
            log.info("features told no status", reason=_words(error))
            return None


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
