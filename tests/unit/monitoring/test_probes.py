"""What probes make of the answers of other services, and of silence."""

import json
from collections.abc import Callable, Iterator

import httpx
import pytest

from services.monitoring.probes import Probes
from slipstream.chassis.client import Peer

MODEL = {"version": "3", "aliases": ["champion"], "created_at": 1, "metrics": {"ndcg@10": 0.12}}
RUN = {"run_id": "r", "state": "succeeded", "trigger": "request", "created_at": 1}
GOOD: dict[str, tuple[int, object]] = {
    "/health/ready": (
        200,
        {"status": "ready", "down": [], "checks": {"broker": "ok"}, "started_at": 7},
    ),
    "/v1/runs": (200, {"items": [RUN], "next_cursor": None}),
    "/v1/aliases/champion": (200, MODEL),
    "/v1/status": (200, {"applied": 5, "lag": 2, "lake": {}, "watermark": 7, "caught_up": False}),
}

Make = Callable[..., tuple[Probes, list[str]]]


@pytest.fixture
def make() -> Iterator[Make]:
    """Probes with peers that give `GOOD` answers except the given ones, and the asked paths."""
    made: list[Probes] = []

    def build(
        answers: dict[str, tuple[int, object]] | None = None,
        *,
        reachable: bool = True,
        may_sleep: tuple[str, ...] = (),
    ) -> tuple[Probes, list[str]]:
        given = GOOD | (answers or {})
        asked: list[str] = []

        def answer(request: httpx.Request) -> httpx.Response:
            asked.append(request.url.path)
            if not reachable:
                raise httpx.ConnectError("refused")
            status, body = given[request.url.path]
            return httpx.Response(status, text=body if isinstance(body, str) else json.dumps(body))

        transport = httpx.MockTransport(answer)
        training, features = (
            Peer(n, "http://peer", retries=0, transport=transport) for n in ("training", "features")
        )
        probes = Probes(
            {"serving": "http://serving"},
            training,
            features,
            timeout_s=1,
            may_sleep=may_sleep,
            transport=transport,
        )
        made.append(probes)
        return probes, asked

    yield build
    for probes in made:
        probes.close()


def test_ask_reads_states_champion_runs_and_features(make: Make) -> None:
    (serving,), training, features = make()[0].ask()
    assert (serving.name, serving.state, serving.down) == ("serving", "ready", [])
    assert serving.started_at == 7
    assert training.reached
    assert training.champion is not None
    assert training.champion.model.version == "3"
    assert [run.run_id for run in training.runs] == ["r"]
    assert features is not None
    assert (features.lag, features.watermark) == (2, 7)


def test_ask_names_what_an_unready_service_says_is_down(make: Make) -> None:
    probes, _ = make(
        {
            "/health/ready": (
                503,
                {
                    "status": "unready",
                    "checks": {"redis": "no answer", "broker": "ok"},
                    "started_at": 7,
                },
            )
        }
    )
    ((serving,), _, _) = probes.ask()
    assert (serving.state, serving.down, serving.detail) == (
        "unready",
        ["redis"],
        "redis: no answer",
    )


@pytest.mark.parametrize("body", ["<html>", "[]", "{}", '{"status": "ready", "checks": {}}'])
def test_ask_takes_an_answer_without_a_readiness_body_for_away(make: Make, body: str) -> None:
    probes, _ = make({"/health/ready": (502, body)})
    ((serving,), _, _) = probes.ask()
    assert serving.state == "away"


def test_ask_of_services_that_are_away_says_so_and_raises_nothing(make: Make) -> None:
    (serving,), training, features = make(reachable=False)[0].ask()
    assert serving.state == "away"
    assert not training.reached
    assert "refused" in training.detail
    assert features is None


def test_a_service_that_may_sleep_is_asleep_only_while_nothing_takes_connections(
    make: Make,
) -> None:
    ((asleep,), _, _) = make(reachable=False, may_sleep=("serving",))[0].ask()
    assert (asleep.state, asleep.detail) == ("asleep", "ConnectError: refused")
    ((broken,), _, _) = make({"/health/ready": (502, "")}, may_sleep=("serving",))[0].ask()
    assert broken.state == "away"
    ((other,), _, _) = make(reachable=False, may_sleep=("features",))[0].ask()
    assert other.state == "away"


def test_ask_tells_no_champion_from_no_answer(make: Make) -> None:
    _, training, _ = make({"/v1/aliases/champion": (404, {"code": "no_model"})})[0].ask()
    assert (training.reached, training.champion) == (True, None)
    _, training, _ = make({"/v1/aliases/champion": (500, {"code": "internal_error"})})[0].ask()
    assert (training.reached, training.champion) == (False, None)
