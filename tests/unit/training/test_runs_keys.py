"""Runs by the key of their request: over the real routes, on real SQL, by several replicas."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from services.training.records import KeyTakenError
from services.training.run.launcher import KilledError
from services.training.runs import INTERRUPTED
from slipstream.contracts.rest import RunRequest
from slipstream.stores.artifacts import Artifacts
from slipstream_cli.commands.openapi import app_of
from tests.unit.training.run_queue import RESULT, Scene


@pytest.fixture
def client(scene: Scene) -> Iterator[TestClient]:
    app = app_of("training")
    app.state.parts = SimpleNamespace(
        repository=scene.repository, runs=scene.runs, artifacts=scene.artifacts
    )
    yield TestClient(app)  # not entered: nothing is opened


def test_two_starts_with_a_key_are_one_run(client: TestClient) -> None:
    first = client.post("/v1/runs", json={"key": "nightly", "profile": "best"})
    again = client.post("/v1/runs", json={"key": "nightly", "profile": "best"})
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json() and first.json()["key"] == "nightly"
    assert client.get("/v1/runs/nightly").json() == first.json()
    assert len(client.get("/v1/runs").json()["items"]) == 1
    assert client.get("/v1/runs/daily").status_code == 404


def test_a_key_has_a_run_of_its_own(client: TestClient) -> None:
    """A run of a key is pinned to what was there when it began, so it serves no other request."""
    bodies: list[dict[str, Any]] = [{}, {"key": "a"}, {"key": "b"}, {}]
    ids = [client.post("/v1/runs", json=body).json()["run_id"] for body in bodies]
    assert len(set(ids)) == 3 and ids[0] == ids[3]


def test_a_key_with_other_options_is_refused(client: TestClient) -> None:
    run = client.post("/v1/runs", json={"key": "nightly"}).json()
    refused = client.post("/v1/runs", json={"key": "nightly", "profile": "best"})
    assert (refused.status_code, refused.json()["code"]) == (409, "key_taken")
    assert run["run_id"] in refused.json()["detail"] and "fast" in refused.json()["detail"]


@pytest.mark.parametrize("key", ["", "a b", "-a", "a/b", "é", "a" * 129, "20261130-101112-0a1b2c"])
def test_a_malformed_key_is_refused(client: TestClient, key: str) -> None:
    refused = client.post("/v1/runs", json={"key": key})
    assert refused.status_code == 422, refused.text
    assert "key" in refused.text


def test_a_key_used_at_the_same_instant_at_three_replicas_is_one_run(
    scene: Scene, artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    replicas = [scene.runs, *(Scene(scene.repository, artifacts).runs for _ in range(2))]
    together, add = threading.Barrier(3), scene.repository.add

    def all_at_once(*arguments: Any) -> Any:
        together.wait(60)  # none of them has found a run with the key
        return add(*arguments)

    monkeypatch.setattr(scene.repository, "add", all_at_once)
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda it: it.request(RunRequest(key="nightly")), replicas))
    assert len({run.run_id for run in runs}) == 1
    assert len(scene.repository.page(9)[0]) == 1


def test_other_options_at_the_same_instant_are_refused(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = scene.repository.add

    def after_another(*arguments: Any) -> Any:
        add("r0", "request", "", "best", "", "nightly")
        return add(*arguments)

    monkeypatch.setattr(scene.repository, "add", after_another)
    with pytest.raises(KeyTakenError, match="run r0 has profile best"):
        scene.runs.request(RunRequest(key="nightly"))


def test_the_key_of_a_killed_run_names_its_next_attempt(client: TestClient, scene: Scene) -> None:
    first = client.post("/v1/runs", json={"key": "nightly"}).json()["run_id"]
    outcomes = iter([KilledError(INTERRUPTED)])

    def outcome() -> Any:
        for error in outcomes:
            raise error
        return RESULT

    scene.outcome = outcome
    scene.go.set()
    scene.thread.start()
    scene.until(first, "succeeded")
    again = client.post("/v1/runs", json={"key": "nightly"}).json()
    assert (again["run_id"], again["attempt"], again["state"]) == (first, 2, "succeeded")


def test_a_run_is_cancelled_by_its_key(client: TestClient, scene: Scene) -> None:
    run = scene.runs.request(RunRequest(key="nightly"))
    assert scene.runs.cancel("nightly").state == "cancelled"
    assert client.get(f"/v1/runs/{run.run_id}").json()["state"] == "cancelled"
