"""The REST routes of placements, on real SQLite and without a broker."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from services.monitoring.app import create_app
from services.monitoring.placements.api import PlacementRoutes
from services.monitoring.placements.repository import PlacementTable
from services.monitoring.settings import MonitoringSettings
from slipstream.chassis.access.keys import KnownKey, digest_of
from slipstream.chassis.settings import HttpSettings
from slipstream.contracts.access import Principal, Scope

SPONSORED = {"name": "sponsored", "action": "pin", "position": 3}


class Shop:
    """A client with all scopes, and the number of times that the publisher was woken."""

    def __init__(self, table: PlacementTable) -> None:
        self.wakes = 0
        app = create_app(MonitoringSettings(http=HttpSettings(api_token=SecretStr("s3cret"))))
        for scope in (Scope.READ, Scope.OPERATE):
            principal = Principal(scope.value, frozenset({scope}), browser=False)
            app.state.keys._configured[digest_of(scope.value)] = KnownKey(principal)
        app.state.placements = PlacementRoutes("placement", table, self._changed, lambda: 5)
        self.client = TestClient(app, headers={"Authorization": "Bearer s3cret"})

    def _changed(self) -> None:
        self.wakes += 1

    def put(self, name: str, policy: Any, if_match: str | None = None) -> tuple[int, Any]:
        headers = {"If-Match": if_match} if if_match is not None else {}
        answer = self.client.put(f"/v1/placements/{name}", json=policy, headers=headers)
        return answer.status_code, answer.json()

    def get(self, path: str = "", **params: Any) -> tuple[int, Any]:
        answer = self.client.get(f"/v1/placements{path}", params=params)
        return answer.status_code, answer.json()

    def delete(self, name: str, if_match: str | None = None) -> tuple[int, Any]:
        headers = {"If-Match": if_match} if if_match is not None else {}
        answer = self.client.delete(f"/v1/placements/{name}", headers=headers)
        return answer.status_code, answer.json()


@pytest.fixture
def shop(table: PlacementTable) -> Shop:
    return Shop(table)


def test_a_placement_is_created_replaced_read_and_deleted(shop: Shop) -> None:
    status, made = shop.put("home", {"rules": [SPONSORED], "seen": "hide"})
    assert (status, made["revision"], made["changed_at"], made["changed_by"]) == (
        201, 1, 5, "api-token",
    )  # fmt: skip
    assert made["policy"]["rules"][0] | SPONSORED == made["policy"]["rules"][0]
    assert shop.get("/home") == (200, made)
    assert shop.client.get("/v1/placements/home").headers["ETag"] == '"1"'
    assert shop.put("home", made["policy"]) == (200, made)
    assert shop.put("home", {})[1]["revision"] == 2
    assert shop.delete("home")[1]["deleted"]
    status, problem = shop.get("/home")
    assert (status, problem["code"]) == (404, "no_placement")
    assert shop.delete("home")[1]["code"] == "no_placement"
    assert shop.get()[1] == {"items": [], "next_cursor": None}
    assert [it["revision"] for it in shop.get("/home/revisions")[1]["items"]] == [3, 2, 1]
    assert shop.get("/never/revisions")[0] == 404
    assert shop.wakes == 4


def test_lists_come_in_pages(shop: Shop) -> None:
    for name in ("c", "a", "b"):
        shop.put(name, {})
    shop.put("a", {"seen": "hide"})
    _, first = shop.get("", limit=2)
    _, rest = shop.get("", cursor=first["next_cursor"])
    assert [it["name"] for it in [*first["items"], *rest["items"]]] == ["a", "b", "c"]
    assert rest["next_cursor"] is None
    _, newest = shop.get("/a/revisions", limit=1)
    _, oldest = shop.get("/a/revisions", cursor=newest["next_cursor"])
    assert [it["revision"] for it in [*newest["items"], *oldest["items"]]] == [2, 1]
    assert shop.get("", limit=51)[0] == shop.get("", cursor="a b")[0] == 422


def test_of_two_who_change_the_same_revision_one_is_refused(shop: Shop) -> None:
    shop.put("home", {})
    assert shop.put("home", {"diversity": 0.1}, '"1"')[0] == 200
    status, problem = shop.put("home", {"diversity": 0.2}, '"1"')
    assert (status, problem["code"]) == (412, "precondition_failed")
    assert problem["detail"] == "home has revision 2: read it again"
    assert shop.delete("home", '"1"')[0] == 412 and shop.put("new", {}, '"1"')[0] == 412
    assert shop.get("/home")[1]["policy"]["diversity"] == 0.1
    for strange in ("2", "*", '"0"', 'W/"2"', '"1", "2"'):
        status, problem = shop.put("home", {}, strange)
        assert (status, problem["code"]) == (400, "invalid_request"), strange
    assert shop.delete("home", '"2"')[0] == 200


def test_a_wrong_policy_is_refused_with_rule_field_and_position(shop: Shop) -> None:
    wrong = [SPONSORED, {"name": "cheap", "action": "include", "filter": "price <"}]
    status, problem = shop.put("home", {"rules": wrong})
    assert (status, problem["code"]) == (422, "invalid_request")
    assert problem["errors"] == [
        {
            "field": "body.rules.1.include.filter",
            "reason": "rule cheap: invalid syntax (at position 7)",
            "code": "invalid_filter",
        }
    ]
    pins = [SPONSORED, SPONSORED | {"name": "other"}]
    assert "pin to position 3" in shop.put("home", {"rules": pins})[1]["detail"]
    assert shop.get()[1]["items"] == [] and shop.wakes == 0


@pytest.mark.parametrize(
    "body",
    [
        b'{"group_by": "\\ud800"}',
        b'{"rules": [{"name": "a", "action": "cap", "attribute": "\\ud800", "most": 1}]}',
        b'{"rules": [{"name": "a", "action": "include", "filter": "\\ud800"}]}',
        b'{"rules": [{"name": "\\ud800", "action": "include", "filter": "("}]}',
        b'{"rules": [{"name": "a", "action": "boost", "factor": 1e999}]}',
        b'{"diversity": NaN}',
        b"[]",
        b"",
    ],
)
def test_strange_bodies_are_refused(shop: Shop, body: bytes) -> None:
    answer = shop.client.put(
        "/v1/placements/home", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422, answer.text


def test_a_wrong_name_and_one_placement_too_many_are_refused(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shop.put("a%20b", {})[0] == shop.put("x" * 65, {})[0] == 422
    monkeypatch.setattr(PlacementTable, "most", 0)
    status, problem = shop.put("home", {})
    assert (status, problem["code"]) == (409, "too_many_placements")


def test_who_may_read_may_not_change(shop: Shop) -> None:
    shop.put("home", {})
    for scope, may_read, may_change in (("read", True, False), ("operate", False, True)):
        shop.client.headers["Authorization"] = f"Bearer {scope}"
        for path in ("", "/home", "/home/revisions"):
            assert (shop.get(path)[0] == 200) == may_read
        assert (shop.put("home", {})[0] == 200) == may_change
        assert (shop.delete("home")[0] == 200) == may_change
