"""Audit records of promotions, rollbacks and cancellations, over the real routes."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from services.training import api
from services.training.registry import NoCanaryError, NoPreviousError, UnknownVersionError
from services.training.repository import AUDIT, TABLES
from slipstream.chassis.settings import DatabaseSettings, HttpSettings
from slipstream.contracts.rest import ModelVersion, Run
from slipstream.stores import metadata
from slipstream.stores.metadata import AuditLog
from slipstream_cli.commands.openapi import app_of
from tests.unit.chassis.access.key_records import key_record

TOKEN = {"Authorization": "Bearer s3cret"}


class Aliases:
    """Moves no alias; knows version `a` and run `r` alone, and one champion before. Notes how many
    records there were by then.
    """

    def __init__(self, log: AuditLog) -> None:
        self.log = log
        self.records_before: list[int] = []
        self.champions_before = ["a"]

    def note_records(self) -> None:
        self.records_before.append(len(self.log.page(20, None).items))

    def promote(self, version: str, _reason: str) -> ModelVersion:
        self.note_records()
        if version != "a":
            raise UnknownVersionError(f"there is no version {version}")
        return ModelVersion(version=version, created_at=1)

    def rollback(self, _reason: str) -> ModelVersion:
        self.note_records()
        if not self.champions_before:
            raise NoPreviousError("there was no champion before")
        return ModelVersion(version=self.champions_before.pop(), created_at=1)

    def set_canary(self, version: str, reason: str) -> ModelVersion:
        return self.promote(version, reason)

    def remove_canary(self, _reason: str) -> ModelVersion:
        self.note_records()
        raise NoCanaryError("no model is canary")

    def cancel(self, run_id: str) -> Run:
        self.note_records()
        if run_id != "r":
            raise LookupError(f"there is no run {run_id}")
        return Run(run_id=run_id, state="cancelled", trigger="request", created_at=1)


@pytest.fixture
def aliases(tmp_path: Path) -> Aliases:
    engine = metadata.engine(DatabaseSettings(url=SecretStr(f"sqlite:///{tmp_path / 'a.db'}")))
    TABLES.create_all(engine)
    return Aliases(AuditLog(engine, AUDIT))


@pytest.fixture
def client(aliases: Aliases) -> TestClient:
    app = app_of("training", HttpSettings(api_token=SecretStr("s3cret")))
    app.state.parts = SimpleNamespace(publisher=aliases, runs=aliases, audit=aliases.log)
    assert set(vars(app.state.parts)) < set(api.Parts.__dataclass_fields__)
    for key, scopes in (("operator", ["read", "operate"]), ("reader", ["read"])):
        app.state.keys.take(key_record(key, scopes))
    return TestClient(app)  # not entered: nothing is opened


def test_every_act_has_a_record_before_it_and_one_of_its_failure(
    client: TestClient, aliases: Aliases
) -> None:
    held = {"Authorization": "Bearer operator", "X-Request-Id": "r-1"}
    assert client.post("/v1/models/a:promote", json={"reason": "by hand"}, headers=held).is_success
    assert client.post("/v1/models/b:promote", headers=held).status_code == 404
    assert client.post("/v1/models:rollback", headers=TOKEN).is_success
    assert client.post("/v1/models:rollback", headers=TOKEN).status_code == 409
    assert client.post("/v1/runs/r:cancel", headers=TOKEN).is_success
    assert client.post("/v1/runs/x:cancel", headers=TOKEN).status_code == 404
    canary = {"version": "a", "reason": "a trial"}
    assert client.put("/v1/aliases/canary", json=canary, headers=held).is_success
    assert client.delete("/v1/aliases/canary?reason=worse", headers=held).status_code == 404
    page = client.get("/v1/audit", headers=TOKEN).json()
    told = [(record["principal"], record["action"], record["subject"]) for record in page["items"]]
    assert told[::-1] == [
        ("operator", "promote", "a"),
        ("operator", "promote", "b"),
        ("operator", "promote_failed", "b"),
        ("api-token", "rollback", "champion"),
        ("api-token", "rollback", "champion"),
        ("api-token", "rollback_failed", "champion"),
        ("api-token", "cancel", "r"),
        ("api-token", "cancel", "x"),
        ("api-token", "cancel_failed", "x"),
        ("operator", "set_canary", "a"),
        ("operator", "remove_canary", "canary"),
        ("operator", "remove_canary_failed", "canary"),
    ]
    first = page["items"][-1]
    assert (first["detail"], first["request_id"]) == ({"reason": "by hand"}, "r-1")
    assert page["items"][0]["detail"] == {"error": "no model is canary"}
    assert aliases.records_before == [1, 2, 4, 5, 7, 8, 10, 11]


def test_who_may_not_does_nothing_and_leaves_no_record(
    client: TestClient, aliases: Aliases
) -> None:
    reader = {"Authorization": "Bearer reader"}
    refused = client.post("/v1/models/a:promote", headers=reader)
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
    assert client.get("/v1/audit", headers={"Authorization": "Bearer operator"}).status_code == 403
    assert client.put("/v1/aliases/canary", json={"version": "a"}, headers=reader).is_error
    assert client.delete("/v1/aliases/canary", headers=reader).status_code == 403
    assert client.post("/v1/models/a:promote").status_code == 401
    assert (aliases.records_before, aliases.log.page(10, None).items) == ([], [])
