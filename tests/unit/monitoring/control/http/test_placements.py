"""The REST routes of placements, on real SQLite and without a broker."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError
from sqlalchemy import Engine, insert

from services.monitoring.app import create_app
from services.monitoring.control.experiments_repository import ExperimentTable
from services.monitoring.control.http import placements
from services.monitoring.control.http.placements import PlacementRoutes, PolicyBody
from services.monitoring.control.named_records_repository import PlacementTable
from services.monitoring.counting.credit import DIMENSIONS, SUMS
from services.monitoring.counting.outcomes_repository import OutcomeTable
from services.monitoring.counting.tables import outcomes
from services.monitoring.settings import MonitoringSettings
from slipstream.chassis.client import Peer
from slipstream.chassis.settings import HttpSettings
from slipstream.contracts.experiments import ExperimentDesign
from slipstream.contracts.placements import MOST_RULES, PlacementPolicy
from slipstream.contracts.rest import AuditRecord
from slipstream.contracts.times import HOUR_MS

NOW = 1_800_000_000_000
SPONSORED = {"name": "sponsored", "action": "pin", "position": 3}


class Shop:
    """A client with all scopes, and the number of times that the publisher was woken."""

    def __init__(self, table: PlacementTable, db: Engine) -> None:
        self.wakes = 0
        self.experiments = ExperimentTable(db)
        outcomes = OutcomeTable(db, lambda _digests: {})
        app = create_app(MonitoringSettings(http=HttpSettings(api_token=SecretStr("s3cret"))))
        self.asked: list[Any] = []
        self.serving_answers = True
        serving = Peer("serving", "http://serving", transport=httpx.MockTransport(self._serve))
        app.state.placements = PlacementRoutes(
            "placement", table, self._changed, lambda: NOW, self.experiments, outcomes, serving
        )
        self.client = TestClient(app, headers={"Authorization": "Bearer s3cret"})

    def _serve(self, request: httpx.Request) -> httpx.Response:
        if not self.serving_answers:
            raise httpx.ConnectError("no answer", request=request)
        self.asked.append((request.url.path, json.loads(request.content)))
        return httpx.Response(200, json={"items": 578, "rules": [{"rule": "r", "matches": 0}]})

    def _changed(self) -> None:
        self.wakes += 1

    def put(self, name: str, policy: Any, if_match: str | None = None) -> tuple[int, Any]:
        headers = {"If-Match": if_match} if if_match is not None else {}
        answer = self.client.put(f"/v1/placements/{name}", json=policy, headers=headers)
        return answer.status_code, answer.json()

    def get(self, path: str = "", **params: Any) -> tuple[int, Any]:
        answer = self.client.get(f"/v1/placements{path}", params=params)
        return answer.status_code, answer.json()

    def delete(self, name: str, if_match: str | None = None, **params: Any) -> tuple[int, Any]:
        headers = {"If-Match": if_match} if if_match is not None else {}
        answer = self.client.delete(f"/v1/placements/{name}", headers=headers, params=params)
        return answer.status_code, answer.json()


@pytest.fixture
def shop(table: PlacementTable, db: Engine) -> Shop:
    return Shop(table, db)


def test_a_change_says_what_its_rules_match_where_serving_tells(shop: Shop) -> None:
    rule = {"name": "r", "action": "exclude", "filter": 'brnad == "Kalo"'}
    status, put = shop.put("home", {"rules": [rule]})
    assert (status, put["matches"]) == (
        201,
        {"items": 578, "rules": [{"rule": "r", "matches": 0, "remark": ""}]},
    )
    ((path, body),) = shop.asked
    assert path == "/v1/rules:match" and body["rules"][0]["filter"] == rule["filter"]
    shop.serving_answers = False
    status, put = shop.put("home", {"rules": [rule | {"name": "s"}]})
    assert (status, put["revision"], put["matches"]) == (200, 2, None)


def test_an_experiment_that_has_ended_uses_no_placement(shop: Shop) -> None:
    shop.put("home", {})
    variants = [{"name": "control"}, {"name": "new"}]
    design = {"placements": ["home"], "variants": variants, "ends_at": NOW}
    audit = AuditRecord(at=NOW, principal="a", action="put_experiment", subject="trial")
    shop.experiments.put("trial", ExperimentDesign.model_validate(design), audit)
    assert shop.delete("home")[0] == 200


@pytest.mark.parametrize("use", ["placements", "variant", "requests"])
def test_a_placement_in_use_is_deleted_by_force_alone(shop: Shop, db: Engine, use: str) -> None:
    for name in ("home", "cart"):
        shop.put(name, {})
    if use == "requests":
        row = {**dict.fromkeys(DIMENSIONS, ""), **dict.fromkeys(SUMS, 0), "currency": ""}
        row |= {"length_ms": HOUR_MS, "start": NOW - HOUR_MS, "placement": "home", "answers": 7}
        row |= {"revision": 0, "position": 0, "visitors": b""}
        with db.begin() as connection:
            # Lists of two items: each counts once.
            connection.execute(insert(outcomes), [row, row | {"position": 1}])
    else:
        of_variant = {"name": "new", "placement": "home" if use == "variant" else ""}
        design = {
            "placements": ["home" if use == "placements" else "cart"],
            "variants": [{"name": "control"}, of_variant],
        }
        audit = AuditRecord(at=NOW, principal="a", action="put_experiment", subject="trial")
        shop.experiments.put("trial", ExperimentDesign.model_validate(design), audit)
    status, problem = shop.delete("home")
    assert (status, problem["code"]) == (409, "placement_in_use")
    assert ("7 requests" if use == "requests" else "experiment trial") in problem["detail"]
    assert shop.get("/home")[0] == 200
    assert shop.delete("home", force=True)[1]["deleted"]


def test_a_placement_is_created_replaced_read_and_deleted(shop: Shop) -> None:
    status, made = shop.put("home", {"rules": [SPONSORED], "seen": "hide"})
    assert (status, made["revision"], made["changed_at"], made["changed_by"]) == (
        201, 1, NOW, "api-token",
    )  # fmt: skip
    assert made["policy"]["rules"][0] | SPONSORED == made["policy"]["rules"][0]
    assert shop.get("/home") == (200, {k: v for k, v in made.items() if k != "matches"})
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


def rule(action: str = "include", name: str = "r", **more: Any) -> dict[str, Any]:
    return {"name": name, "action": action, **more}


def pin(name: str, **more: Any) -> dict[str, Any]:
    return rule("pin", name, **{"position": 3, **more})


def test_a_policy_of_every_kind_of_rule_becomes_the_contracts() -> None:
    rules = [
        rule("include", "a", filter='category == "shoes"'),
        rule("exclude", "b", filter="brand in bought", when='device == "phone"'),
        rule("boost", "c", factor=1.5),
        rule("bury", "d", factor=0.5, starts_at=1, ends_at=2),
        pin("e"),
        rule("cap", "f", attribute="brand", most=2),
    ]
    taken = PolicyBody.model_validate({"rules": rules, "seen": "hide"}).policy()
    assert taken == PlacementPolicy.model_validate({"rules": rules, "seen": "hide"})
    assert type(taken.rules[0]) is type(PlacementPolicy.model_validate({"rules": rules}).rules[0])


@pytest.mark.parametrize(
    ("policy", "place", "words"),
    [
        ({"rules": [rule(filter="price <")]}, ("filter",), "rule r: invalid syntax (at"),
        ({"rules": [rule(filter="x" * 2_001)]}, ("filter",), "2000 characters"),
        ({"rules": [rule(when="device ==")]}, ("when",), "rule r: invalid syntax (at position 9)"),
        ({"rules": [rule(when="a and b in seen")]}, ("when",), "seen (at position 11)"),
        ({"rules": [rule(when="b not in bought")]}, ("when",), "bought (at position 9)"),
        ({"rules": [rule(filter="\ud800")]}, ("filter",), "odd characters"),
        ({"rules": [rule(starts_at=5, ends_at=5)]}, (), "rule r: it ends before it starts"),
        ({"rules": [rule("boost", factor=0.5)]}, (), "rule r: a factor above 1 boosts"),
        ({"rules": [rule("bury", factor=1)]}, (), "rule r: a factor above 1 boosts"),
        ({"rules": [rule("fly")]}, (), "'include', 'exclude'"),
        ({"rules": [rule(enabeld=False)]}, ("enabeld",), "Extra inputs are not permitted"),
        ({"rules": [rule("pin", position=101)]}, ("position",), "100"),
        ({"rules": [rule(), rule("exclude")]}, None, "two rules have the name r"),
        ({"rules": [rule(name=f"r{n}") for n in range(MOST_RULES + 1)]}, None, "at most 100"),
        ({"sen": "hide"}, None, "Extra inputs are not permitted"),
        ({"bought": "learned"}, None, "'model', 'show' or 'hide'"),
        ({"diversity": float("nan")}, None, "finite"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_rule_field_and_position(
    policy: dict[str, Any], place: tuple[str, ...] | None, words: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        PolicyBody.model_validate(policy)
    (error,) = refused.value.errors()
    assert words in error["msg"]
    if place is not None:  # behind the rule's number, and its action
        assert error["loc"][:2] == ("rules", 0) and error["loc"][3:] == place


@pytest.mark.parametrize(
    "other",
    [
        pin("b", position=4),
        pin("b", when='device == "phone"'),
        pin("b", enabled=False),
        pin("b", starts_at=20),
        pin("b", ends_at=10),
    ],
)
def test_a_position_may_be_pinned_twice_where_only_one_holds(other: dict[str, Any]) -> None:
    taken = PolicyBody.model_validate({"rules": [pin("a", starts_at=10, ends_at=20), other]})
    assert [each.name for each in taken.policy().rules] == ["a", "b"]


times = st.none() | st.integers(0, 6)


@given(times, times, times, times)
def test_pins_of_one_position_must_not_overlap(
    one_start: int | None, one_end: int | None, other_start: int | None, other_end: int | None
) -> None:
    one = pin("a", starts_at=one_start, ends_at=one_end)
    other = pin("b", starts_at=other_start, ends_at=other_end)

    def moments(start: int | None, end: int | None) -> set[int]:
        return set(range(start or 0, 9 if end is None else end))

    empty = not moments(one_start, one_end) or not moments(other_start, other_end)
    shared = moments(one_start, one_end) & moments(other_start, other_end)
    if empty or shared:
        with pytest.raises(ValidationError, match=r"it ends before|at the same time"):
            PolicyBody.model_validate({"rules": [one, other]})
    else:
        PolicyBody.model_validate({"rules": [one, other]})


def test_a_policy_that_is_too_large_is_refused() -> None:
    long = "item_id in [" + ", ".join(f'"{n:05}"' for n in range(190)) + "]"
    rules = [rule(name=f"r{n}", filter=long) for n in range(placements.MOST_BYTES // len(long) + 1)]
    with pytest.raises(ValidationError, match="at most 65,536 bytes"):
        PolicyBody.model_validate({"rules": rules})
    assert PolicyBody.model_validate({"rules": rules[:20]}).policy().rules[19].filter == long


def test_the_pages_example_is_taken() -> None:
    page = (Path(__file__).parents[5] / "docs" / "placements.md").read_text("utf-8")
    example = page.partition("```json\n")[2].partition("```")[0]
    taken = PolicyBody.model_validate_json(example).policy()
    kinds = {"include", "exclude", "boost", "bury", "pin", "cap"}
    assert {each.action for each in taken.rules} == kinds
