"""Slates of placements: rules, variety, exploration, and what answer and record tell of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

from services.serving.state.filter_masks import FilterMasks
from slipstream.contracts.placements import Placement, PlacementPolicy
from slipstream.contracts.times import DAY_MS, now_ms
from slipstream.features.visitor import Impression, SequenceEvent, VisitorState
from slipstream.models.base import NEVER
from slipstream.models.repurchases import Repurchases
from slipstream.recommender import stages
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.stages import ListQuestion, Recommendation
from tests.unit.serving.app_on_fakes import URL, make_app
from tests.unit.serving.fakes import (
    ITEMS,
    FakeOnline,
    Setting,
    item_record,
    model,
    small_bundle,
    visitor,
)

BRANDS = ("nike", "puma", "asics")


class Shop:
    """A serving app whose placement `home` has the given policy."""

    def __init__(self, bundle: Bundle) -> None:
        self.policy: dict[str, Any] = {}
        self.revision = 1
        online = FakeOnline(
            {"ada": visitor("item-03", "item-04")}, [(item_id, 1.0) for item_id in ITEMS]
        )
        self.setting = Setting(online, model(bundle, "7"), placement=self.placement)
        for number, item_id in enumerate(ITEMS):
            attributes = {
                "price": number * 10,
                "brand": BRANDS[number % 3],
                "sponsored": number in (11, 25),
            }
            self.setting.catalog.apply(item_record(item_id, attributes=attributes))
        self.app = make_app(self.setting)

    def placement(self, name: str) -> Placement | None:
        if name != "home":
            return None
        policy = PlacementPolicy.model_validate(self.policy)
        return Placement(name=name, revision=self.revision, policy=policy, changed_at=1)

    async def ask(
        self, path: str = "/v1/recommendations", user: bool = True, **body: Any
    ) -> dict[str, Any]:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url=URL
        ) as client:
            who = {"user_id": "ada"} if user else {}
            answer = await client.post(path, json={**who, "placement": "home", **body})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture
def shop(bundle: Bundle) -> Shop:
    return Shop(bundle)


def numbers(answer: dict[str, Any]) -> list[int]:
    return [int(item["item_id"].removeprefix("item-")) for item in answer["items"]]


async def test_without_a_policy_the_slate_is_the_model_s(shop: Shop) -> None:
    plain = await shop.ask(placement="")
    assert numbers(await shop.ask()) == numbers(plain)
    assert not plain.keys() & {"rules", "propensities"}


async def test_rules_decide_which_items_are_shown_and_where(shop: Shop) -> None:
    shop.policy = {
        "rules": [
            {"name": "cheap", "action": "include", "filter": "price <= 250"},
            {"name": "not six", "action": "exclude", "filter": 'item_id == "item-06"'},
            {"name": "two of a brand", "action": "cap", "attribute": "brand", "most": 2},
            {"name": "sponsored", "action": "pin", "position": 3, "filter": "sponsored"},
        ]
    }
    answer = await shop.ask(n=5, explain=True)
    found = numbers(answer)
    assert found[2] == 11
    assert 6 not in found and all(number <= 25 for number in found)
    assert max(sum(number % 3 == brand for number in found) for brand in range(3)) <= 2
    assert answer["items"][2]["rules"] == ["sponsored"]
    traced = {trace["rule"]: trace for trace in answer["rules"]}
    assert list(traced) == ["cheap", "not six", "two of a brand", "sponsored"]
    assert traced["sponsored"]["items"] == ["item-11"]
    assert traced["two of a brand"]["items"]
    # Of 40 items, 26 cost 250 at most.
    assert (traced["cheap"]["matched"], traced["not six"]["matched"]) == (26, 1)


async def test_a_pin_is_looked_for_beyond_the_candidates(shop: Shop) -> None:
    shop.policy = {
        "rules": [
            {"name": "cheap", "action": "include", "filter": "price < 500"},
            {"name": "far", "action": "pin", "position": 1, "filter": 'item_id == "item-39"'},
        ]
    }
    shop.setting.catalog.apply(item_record("item-39", 2, attributes={"price": 1}))
    assert numbers(await shop.ask(n=3))[0] == 39


async def test_a_pin_that_no_item_may_meet_asks_the_model_no_second_time(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = list[ListQuestion]()
    answers = stages.answers

    def counted(bundle: Bundle, asked: Sequence[ListQuestion]) -> list[list[Recommendation]]:
        questions.extend(asked)
        return answers(bundle, asked)

    monkeypatch.setattr(stages, "answers", counted)
    pin = {"name": "one", "action": "pin", "position": 1, "filter": 'item_id == "item-11"'}
    cheap = {"name": "cheap", "action": "include", "filter": "price < 100"}
    shop.policy = {"rules": [cheap, pin]}
    assert 11 not in numbers(await shop.ask(n=3))
    assert len(questions) == 1
    shop.policy = {"rules": [pin]}
    assert 11 not in numbers(await shop.ask(n=3, exclude=["item-11"]))
    assert len(questions) == 2


async def test_a_look_for_a_pin_that_fails_costs_the_pin(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = FilterMasks.allowed

    def allowed(*asked: Any) -> Any:
        return own(*asked) if "item-11" not in repr(asked) else 1 / 0

    monkeypatch.setattr(FilterMasks, "allowed", allowed)
    shop.policy = {
        "rules": [
            {"name": "cheap", "action": "include", "filter": "price < 100"},
            {"name": "one", "action": "pin", "position": 1, "filter": 'item_id == "item-11"'},
        ]
    }
    assert len(numbers(await shop.ask(n=3))) == 3


async def test_boosts_of_the_placement_and_of_the_request_multiply(shop: Shop) -> None:
    plain = await shop.ask(n=10)
    first, second, third = numbers(plain)[:3]
    gap = plain["items"][0]["score"] / plain["items"][2]["score"]
    half = {"filter": f'item_id == "item-{third:02}"', "factor": gap**0.5 * 1.01}
    shop.policy = {"rules": [{"name": "third", "action": "boost", **half}]}
    assert numbers(await shop.ask(n=10))[0] == first
    asked = await shop.ask(n=10, boosts=[half], explain=True)
    assert numbers(asked)[:3] == [third, first, second]
    assert [trace["rule"] for trace in asked["rules"]] == ["third", "request 1"]
    assert asked["items"][0]["rules"] == ["third", "request 1"]
    shop.policy = {}
    bury = {"filter": f'item_id == "item-{first:02}"', "factor": 0.001}
    assert numbers(await shop.ask(n=10, boosts=[bury]))[0] == second


async def test_a_rule_counts_in_its_context_only(shop: Shop) -> None:
    shop.policy = {
        "rules": [
            {
                "name": "app",
                "action": "include",
                "filter": 'brand == "nike"',
                "when": 'device == "app"',
            }
        ]
    }
    assert {number % 3 for number in numbers(await shop.ask(n=9))} != {0}
    in_app = await shop.ask(n=9, context={"device": "app"})
    assert {number % 3 for number in numbers(in_app)} == {0}


async def test_seen_items_come_again_where_the_placement_shows_them(shop: Shop) -> None:
    assert not {3, 4} & set(numbers(await shop.ask(n=36)))
    shop.policy = {"seen": "show"}
    assert {3, 4} <= set(numbers(await shop.ask(n=40)))


async def test_of_a_group_one_item_is_shown(shop: Shop) -> None:
    for number in range(5, 15):
        attributes = {"brand": "nike", "item_group_id": f"group-{number // 5}"}
        shop.setting.catalog.apply(item_record(f"item-{number:02}", 2, attributes=attributes))
    found = numbers(await shop.ask(n=15, placement=""))
    assert len([number for number in found if 5 <= number < 15]) == 2


async def test_a_varied_slate_has_more_brands(shop: Shop) -> None:
    for number in range(5, 20):
        brand = {"brand": "nike" if number < 10 else BRANDS[number % 3]}
        shop.setting.catalog.apply(item_record(f"item-{number:02}", 2, attributes=brand))

    async def brands(**asked: Any) -> list[str]:
        answer = await shop.ask(n=3, fields=["brand"], **asked)
        return [item["attributes"]["brand"] for item in answer["items"]]

    assert await brands() == ["nike", "nike", "nike"]
    assert sorted(await brands(diversity=1)) == ["asics", "nike", "puma"]


async def test_a_slate_that_explores_has_new_items_and_their_propensities(shop: Shop) -> None:
    shop.policy = {
        "exploration": 0.4,
        "rules": [{"name": "no toys", "action": "exclude", "filter": 'brand == "toys"'}],
    }
    for number in range(6):
        brand = {"brand": "toys" if number > 3 else "new"}
        shop.setting.catalog.apply(item_record(f"new-{number}", attributes=brand))
    answer = await shop.ask(n=30)
    listed = [item["item_id"] for item in answer["items"]]
    new = [item_id for item_id in listed if item_id.startswith("new-")]
    assert 0 < len(new) <= 4 and not {"new-4", "new-5"} & set(new)
    assert len(answer["propensities"]) == 30
    for item_id, share in zip(listed, answer["propensities"], strict=True):
        assert (share < 0.5) == (item_id in new)
    assert shop.setting.slates[-1].propensities == answer["propensities"]


async def test_the_record_names_the_revision_and_the_rules_of_each_item(shop: Shop) -> None:
    shop.policy = {
        "rules": [{"name": "sponsored", "action": "pin", "position": 1, "filter": "sponsored"}]
    }
    shop.revision = 12
    await shop.ask(n=2)
    slate = shop.setting.slates[-1]
    assert (slate.placement, slate.placement_revision) == ("home", 12)
    assert slate.rules == [["sponsored"], []]


async def test_trending_items_fill_a_slate_of_which_rules_leave_too_few(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipstream.slates.slate_plan.POOL", 4)
    monkeypatch.setattr(shop.setting.catalog, "look_alikes", None)  # nobody asks for similar items
    shop.policy = {"rules": [{"name": "one", "action": "cap", "attribute": "kind", "most": 1}]}
    for number in range(5, 20):
        kind = {"kind": "dull"}
        shop.setting.catalog.apply(item_record(f"item-{number:02}", 2, attributes=kind))
    answer = await shop.ask(n=4)
    found = numbers(answer)
    assert len(found) == 4 and sum(5 <= number < 20 for number in found) == 1
    assert "rules leave under 4 of the model's 4 items; " in answer["reason"]


async def test_a_changed_placement_counts_at_once(shop: Shop) -> None:
    await shop.ask()
    shop.policy, shop.revision = (
        {
            "rules": [
                {"name": "none", "action": "exclude"},
            ]
        },
        2,
    )
    assert (await shop.ask())["items"] == []


async def test_the_next_page_is_arranged_too(shop: Shop) -> None:
    shop.policy = {"rules": [{"name": "one", "action": "cap", "attribute": "brand", "most": 1}]}
    first = await shop.ask(n=3)
    second = await shop.ask(n=3, cursor=first["next_cursor"])
    assert not set(numbers(first)) & set(numbers(second))
    for page in (first, second):
        assert {number % 3 for number in numbers(page)} == {0, 1, 2}


async def test_an_item_that_was_shown_in_vain_rests(shop: Shop) -> None:
    shop.policy = {"fatigue": 3}
    first = numbers(await shop.ask(n=3))[0]
    now = now_ms()
    shown = [Impression(now - 1_000 * ago, f"item-{first:02}") for ago in (3, 2, 1)]
    shop.setting.online.visitors["ada"].impressions = shown
    assert first not in numbers(await shop.ask(n=3))
    # It stands in for an empty place.
    assert numbers(await shop.ask(n=38))[-1] == first


async def test_explained_items_have_reasons_that_asking_again_confirms(shop: Shop) -> None:
    answer = await shop.ask(n=3, explain=True)
    reasons = answer["reasons"]
    listed = [item["item_id"] for item in answer["items"]]
    assert [item["item_id"] for item in reasons["items"]] == listed
    first = reasons["items"][0]
    assert first["words"].startswith("first because this visitor viewed ")
    seen = ["item-03", "item-04"]
    for past, rank in zip(reasons["history"], first["ranks_without"], strict=True):
        rest = [{"item_id": item_id} for item_id in seen if item_id != past["item_id"]]
        without = await shop.ask(
            "/v1/sessions:recommend", user=False, events=rest, exclude=seen, n=40
        )
        ranks = {item["item_id"]: place for place, item in enumerate(without["items"], 1)}
        assert ranks[first["item_id"]] == rank
    assert "reasons" not in await shop.ask(n=3)
    assert "reasons" not in (nobody := await shop.ask(n=3, explain=True, user_id="nobody"))
    assert [item["reason_text"] for item in nobody["items"]] == ["Popular right now"] * 3


async def test_a_pin_is_the_reason_and_positions_tell_the_order(shop: Shop) -> None:
    shop.policy = {
        "rules": [
            {"name": "sponsor", "action": "pin", "position": 2, "filter": "item_id == 'item-31'"},
            {"name": "odd", "action": "boost", "factor": 900, "filter": "price >= 350"},
        ]
    }
    answer = await shop.ask(n=5, explain=True)
    assert [item["position"] for item in answer["items"]] == [0, 1, 2, 3, 4]
    scores = [item["score"] for item in answer["items"]]
    assert scores != sorted(scores, reverse=True)
    second = answer["items"][1]
    assert (second["item_id"], second["reason_text"]) == ("item-31", "Selected by the shop")
    places = ("first", "second", "third", "fourth", "fifth")
    for place, reason in zip(places, answer["reasons"]["items"], strict=True):
        assert reason["words"].startswith(place)
    assert answer["reasons"]["items"][1]["words"].startswith("second because a rule pins it; ")
    plain = await shop.ask(n=5, placement="")
    assert [item["position"] for item in plain["items"]] == [0, 1, 2, 3, 4]
    assert "reason_text" not in plain["items"][0]


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("de-CH, de;q=0.9, en;q=0.8", "de"),
        ("fr, en;q=0.5, de;q=0.7", "de"),
        ("en, de", "en"),
        ("fr;q=x, *", "en"),
        ("de;q=0", "en"),
    ],
)
async def test_the_browser_says_in_which_language_reasons_are(
    shop: Shop, accepted: str, language: str
) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(shop.app), base_url=URL) as client:
        answer = await client.get(
            "/v1/recommendations/ada?n=3&explain=true", headers={"Accept-Language": accepted}
        )
    assert answer.headers["Content-Language"] == language
    assert answer.headers["Vary"] == "Accept-Language"
    begin = {"en": "Based on what you did", "de": "Passend zu Ihren"}[language]
    texts = [item["reason_text"] for item in answer.json()["items"]]
    assert len(texts) == 3 and all(text.startswith(begin) for text in texts), texts


@pytest.mark.parametrize(
    ("policy", "hidden"),
    [
        ({}, {"item-03", "item-04"}),
        ({"bought": "show"}, {"item-04"}),
        ({"seen": "show"}, {"item-03"}),
        ({"seen": "show", "bought": "show"}, set()),
        ({"bought": "hide"}, {"item-03", "item-04", "item-05"}),
    ],
)
async def test_bought_items_and_the_last_look_rest_as_the_model_learned_unless_a_placement_says(
    policy: dict[str, Any], hidden: set[str]
) -> None:
    pause = np.full(len(ITEMS), NEVER)
    pause[5] = DAY_MS
    coming_back = small_bundle(repeats=True)
    shop = Shop(replace(coming_back, repurchases=Repurchases(pause, looks_rest=True)))
    shop.policy, now = policy, now_ms()
    events = [
        SequenceEvent("item-03", "purchase", now - 2 * DAY_MS),
        SequenceEvent("item-05", "purchase", now - 2 * DAY_MS),
        SequenceEvent("item-04", "view", now - 60_000),
    ]
    shop.setting.online.visitors["ada"] = VisitorState(events, {"view": 1}, 1, now)
    answer = await shop.ask(n=len(ITEMS), explain=True)
    assert set(ITEMS).difference(item["item_id"] for item in answer["items"]) == hidden
    told = {rule["rule"]: rule["items"] for rule in answer.get("rules", [])}
    assert told == {
        **({} if policy.get("seen") else {"seen": ["item-04"]}),
        **({} if policy.get("bought") else {"bought": ["item-03"]}),
    }
    # A kept list, and a bundle from before repurchases.
    assert len((await shop.ask(n=len(ITEMS)))["items"]) == len(ITEMS) - len(hidden)
    older = Shop(replace(coming_back, repurchases=None))
    older.policy = policy
    older.setting.online.visitors["ada"] = VisitorState(events, {"view": 1}, 1, now)
    shown = {item["item_id"] for item in (await older.ask(n=len(ITEMS)))["items"]}
    assert set(ITEMS) - shown == ({"item-03", "item-05"} if "hide" in policy.values() else set())
