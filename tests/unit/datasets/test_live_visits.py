"""Visits of the living shop: their calls, the account of them, and services that fail."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import httpx
import pytest

from slipstream.datasets import live_visits
from slipstream.datasets.live_visits import (
    LiveError,
    LiveVisits,
    SilentServiceError,
    calls,
)
from slipstream.datasets.living_shop import (
    Deed,
    Habits,
    LivingShop,
    Reaction,
    make_shop,
    react,
    visits,
)
from slipstream.datasets.living_truth import Plan, Truth

SHOP = make_shop(1, 50, 40, Habits(login=1.0))
VISIT = next(each for each in visits(SHOP) if each.logs_in)
SLATE = {
    "recommendation_id": "r1",
    "items": [{"item_id": f"sim-{place}", "position": place} for place in range(3)],
    "answered_by": "model",
    "model_version": "4",
}
QUICK = Plan(rate=50_000, places=3, concurrency=4)
LISTS = 80
Answer = Callable[[httpx.Request], httpx.Response | None]


class Services:
    """Ingestion and serving, as one transport; it keeps what it is sent.

    `answer` may give an answer of its own. `until` says when the visits are to stop.
    """

    def __init__(
        self,
        answer: Answer = lambda _: None,
        until: Callable[[Truth], object] = lambda truth: truth.lists >= LISTS,
    ) -> None:
        self.answer, self.until = answer, until
        self.visiting: LiveVisits | None = None
        self.items: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert self.visiting is not None
        if self.until(self.visiting.truth):
            self.visiting.stop()
        if (given := self.answer(request)) is not None:
            return given
        if request.method == "GET":
            return httpx.Response(200, json={"status": "alive"})
        body = json.loads(request.content)
        if request.url.path == "/v1/recommendations":
            self.asked.append(body)
            return httpx.Response(200, json=SLATE | {"recommendation_id": f"r{len(self.asked)}"})
        entries = body.get("batch") or body["items"]
        (self.calls if "batch" in body else self.items).extend(entries)
        return httpx.Response(200, json={"results": [{"status": "accepted"} for _ in entries]})


def run(services: Services, plan: Plan = QUICK, shop: LivingShop = SHOP) -> LiveVisits:
    """The visits of a plan, after its end; raises as they do."""

    async def visit() -> LiveVisits:
        transport = httpx.MockTransport(services)
        async with httpx.AsyncClient(base_url="http://one", transport=transport) as client:
            services.visiting = LiveVisits(shop, plan, client, client, "run", lambda _: None)
            await services.visiting.run()
            return services.visiting

    return asyncio.run(visit())


def test_calls_tell_the_list_its_clicks_carts_and_purchases_with_price_and_place() -> None:
    deeds = [Deed("sim-2", 9.99, 2, True, True), Deed("sim-9", 5.99, None, True, False)]
    reaction = Reaction(deeds, 0.5, 0.6)
    place = VISIT.logged_in_from or 0
    made = calls(VISIT, place, SLATE, reaction, prefix="run", at_ms=1_700_000_000_000)
    assert [call["event"] for call in made] == [
        *("Product List Viewed", "Product Clicked", "Product Viewed", "Product Added"),
        *("Order Completed", "Product Viewed", "Product Added"),
    ]
    listed, clicked, _, added, ordered, found, found_added = (c["properties"] for c in made)
    assert listed["recommendation_id"] == "r1"
    assert [entry["position"] for entry in listed["products"]] == [0, 1, 2]
    assert clicked == {"product_id": "sim-2", "recommendation_id": "r1", "position": 2}
    assert (added["price"], added["currency"], added["position"]) == (9.99, "EUR", 2)
    assert (ordered["revenue"], ordered["currency"]) == (9.99, "EUR")
    assert ordered["products"][0]["recommendation_id"] == "r1"
    assert "recommendation_id" not in found and "recommendation_id" not in found_added
    assert len({call["messageId"] for call in made}) == len(made)
    assert [call["timestamp"] for call in made] == sorted({call["timestamp"] for call in made})
    assert {call["userId"] for call in made} == {VISIT.account_id}
    assert {call["anonymousId"] for call in made} == {VISIT.anonymous_id}


def test_a_broken_feature_renames_clicks_and_carts_and_nothing_else() -> None:
    reaction = Reaction([Deed("sim-2", 9.99, 2, True, True)], 0.5, 0.6)
    sound, broken = (
        calls(VISIT, 0, SLATE, reaction, prefix="run", at_ms=0, feature_broken=it)
        for it in (False, True)
    )
    assert [call["event"] for call in broken] == [
        *("Product List Viewed", "Item Tapped", "Product Viewed", "Basket Changed"),
        "Order Completed",
    ]
    assert [it["properties"] for it in sound] == [it["properties"] for it in broken]


def test_shoppers_of_a_catalogue_that_the_services_have_send_no_items() -> None:
    services = Services()
    assert run(services, replace(QUICK, sends_items=False)).truth.lists
    assert services.items == [] and services.calls


def test_the_truth_has_what_was_sent_and_what_was_due() -> None:
    services = Services()
    truth = run(services).truth
    assert services.items == [dict(item) for item in SHOP.items]
    assert sum(truth.events.values()) == len(services.calls) > LISTS <= truth.lists
    assert truth.events["identify"] == truth.logins > 0
    names = Counter(call["event"] for call in services.calls if call["type"] == "track")
    assert names == Counter({k: v for k, v in truth.events.items() if k != "identify"})
    report = json.loads(json.dumps(truth.report()))
    (group,) = report["groups"]
    assert (group["phase"], group["model_version"], group["answered_by"]) == (
        "before",
        "4",
        "model",
    )
    assert group["lists"] == names["Product List Viewed"] == report["lists"]
    assert group["clicks"] == names["Product Clicked"]
    assert 0 < group["expected_clicked"] <= group["expected_clicks"]
    assert sum(sums["lists"] for sums in report["series"]) == group["lists"]
    assert len(report["shoppers"]) == 50 and len(report["items"]) == 40
    assert all(len(it["before"]) == len(it["after"]) == 3 for it in report["shoppers"])
    assert len({call["messageId"] for call in services.calls}) == len(services.calls)


def test_shoppers_ask_by_the_account_once_they_are_logged_in() -> None:
    services = Services()
    run(services)
    identified = {c["userId"]: c["anonymousId"] for c in services.calls if c["type"] == "identify"}
    asked = {body["user_id"] for body in services.asked}
    assert identified and set(identified) <= asked
    assert any(user_id.startswith("device-") for user_id in asked)


def test_a_shift_and_a_break_come_when_the_plan_says() -> None:
    def both(truth: Truth) -> bool:
        after = any(group[0] == "after" for group in truth.groups)
        return after and truth.broke_at is not None

    services = Services(until=both)
    plan = replace(QUICK, shift_s=0.06, broken="catalogue", break_s=0.02)
    truth = run(services, plan).truth
    assert truth.broke_at is not None and truth.shifted_at is not None
    assert truth.started_at <= truth.broke_at <= truth.shifted_at <= (truth.ended_at or 0)
    sound, broken = services.items[: len(SHOP.items)], services.items[len(SHOP.items) :]
    assert all({"categories", "price"} <= set(item) for item in sound)
    assert [set(item) for item in broken] == [{"item_id", "title"}] * len(SHOP.items)


def test_the_visits_of_a_seed_react_as_the_pure_functions_say() -> None:
    services = Services()
    truth = run(services, replace(QUICK, concurrency=1)).truth
    shown = [item["item_id"] for item in SLATE["items"]]  # type: ignore[index]
    due = [
        react(SHOP, each, place, shown, shifted=False).probability
        for each in islice(visits(SHOP), truth.visits)
        for place in range(each.lists)
    ]
    assert truth.total().expected_clicked == pytest.approx(sum(due[: truth.lists]))


def test_rejected_calls_are_counted_by_their_code() -> None:
    def reject(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != "/v1/batch":
            return None
        entries = json.loads(request.content)["batch"]
        verdict = {"status": "rejected", "code": "plan_violation"}
        return httpx.Response(200, json={"results": [verdict for _ in entries]})

    truth = run(Services(reject)).truth
    assert truth.events == {} and truth.rejected["plan_violation"] > LISTS


def test_a_call_without_an_answer_is_sent_again_under_its_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live_visits, "_PAUSE_S", 0.001)
    failing, sent = [True], list[str]()

    def falter(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != "/v1/batch":
            return None
        failing[0] = not failing[0]
        if not failing[0]:
            return None
        sent.extend(call["messageId"] for call in json.loads(request.content)["batch"])
        return httpx.Response(503)

    services = Services(falter)
    truth = run(services).truth
    arrived = {call["messageId"] for call in services.calls}
    assert truth.unanswered["ingestion"] > 0
    # At the end those are given up that have no answer yet.
    assert len(set(sent) - arrived) == truth.unsent < len(set(sent) & arrived)
    assert len(arrived) == len(services.calls)


@pytest.mark.parametrize("path", ["/health/live", "/v1/items"])
def test_a_service_that_is_unavailable_at_the_start_ends_the_run(path: str) -> None:
    def fail(request: httpx.Request) -> httpx.Response | None:
        if request.url.path == path:
            raise httpx.ConnectError("refused")
        return None

    with pytest.raises(SilentServiceError, match="at http://one does not answer: refused"):
        run(Services(fail))


def test_a_service_that_stays_silent_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_visits, "_PAUSE_S", 0.001)
    monkeypatch.setattr(live_visits, "PATIENCE_S", 0.05)

    def fail(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(503) if request.url.path == "/v1/recommendations" else None

    with pytest.raises(SilentServiceError, match="serving at http://one has not answered for 0 s"):
        run(Services(fail))


def test_a_refusal_ends_the_run_with_the_service_s_words() -> None:
    def refuse(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != "/v1/recommendations":
            return None
        return httpx.Response(422, text="unknown placement; did you mean home?")

    with pytest.raises(LiveError, match=r"serving at http://one answers 422 .* did you mean home"):
        run(Services(refuse), replace(QUICK, placement="hoem"))


def test_a_run_with_a_length_ends_by_itself() -> None:
    services = Services(until=lambda _: False)
    truth = run(services, replace(QUICK, seconds=0.1)).truth
    assert truth.lists == sum(c.get("event") == "Product List Viewed" for c in services.calls) > 0
    assert truth.ended_at is not None and truth.ended_at - truth.started_at >= 100


def test_calls_come_at_the_rate_of_the_plan() -> None:
    services = Services(until=lambda truth: truth.lists >= 15)
    truth = run(services, replace(QUICK, rate=200)).truth
    took_s = ((truth.ended_at or 0) - truth.started_at) / 1000
    # Four calls a list are reckoned with, and four lists may begin at once.
    assert took_s >= (15 - 4) * 4 / 200
