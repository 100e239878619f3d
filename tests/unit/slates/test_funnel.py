"""The stages of a previewed list, and the stage at which each item falls, with its reason."""

from collections.abc import Callable
from typing import Any

import pytest

from slipstream.contracts.times import now_ms
from slipstream.features.visitor import Impression
from slipstream.recommender import stages
from slipstream.recommender.bundle import Bundle
from tests.unit.serving.fakes import described_bundle, item_record, visitor
from tests.unit.serving.request.test_line_rules import Shop, numbers


@pytest.fixture
def shop(bundle: Bundle) -> Shop:
    return Shop(bundle)


async def preview(shop: Shop, **body: Any) -> dict[str, Any]:
    return await shop.ask("/v1/previews", **body)


async def fall(shop: Shop, about: str, **body: Any) -> tuple[str, str]:
    """The stage and the reason of an item's fall."""
    answer = await preview(shop, about=about, **body)
    assert answer["about"]["position"] is None
    assert about not in {item["item_id"] for item in answer["items"]}
    fell = answer["about"]["fell"]
    assert fell["detail"]
    return fell["stage"], fell["reason"]


async def test_each_stage_passes_on_no_more_than_came_in(shop: Shop) -> None:
    shop.setting.catalog.apply(item_record("item-09", 2, available=False))
    shop.policy = {"rules": [{"name": "cheap", "action": "include", "filter": "price <= 300"}]}
    answer = await preview(shop, n=4)
    passed = {stage["name"]: (stage["in"], stage["out"]) for stage in answer["stages"]}
    assert list(passed) == [
        *("features", "availability", "rules", "retrieval", "ranking", "arrangement", "reasons")
    ]
    # 40 items; one is not available, 9 are dear, and two were seen.
    assert passed["availability"] == (40, 39)
    assert passed["rules"] == (39, 28)
    assert passed["retrieval"][0] == 28
    assert passed["retrieval"][1] == passed["ranking"][0] >= passed["ranking"][1]
    assert passed["arrangement"] == (passed["ranking"][1], 4)
    assert passed["features"] == passed["reasons"] == (None, None)
    assert all(stage["ms"] >= 0 for stage in answer["stages"])
    assert sum(stage["ms"] for stage in answer["stages"]) > 0
    assert "about" not in answer


async def test_lists_that_fill_up_are_stages_too(shop: Shop) -> None:
    answer = await preview(shop, user_id="nobody", n=3, exclude=["item-00"], about="item-39")
    passed = {stage["name"]: (stage["in"], stage["out"]) for stage in answer["stages"]}
    assert passed == {
        "features": (None, None),
        "trending": (0, 39),
        "similar": (0, 0),
        "arrangement": (39, 3),
    }
    assert answer["about"]["fell"]["reason"] == "outranked"
    shop.setting.catalog.apply(item_record("brand-new"))
    fell = (await preview(shop, user_id="nobody", about="brand-new"))["about"]["fell"]
    assert (fell["stage"], fell["reason"]) == ("trending", "not_listed")
    assert "the visitor is not known" in fell["detail"]


async def test_new_items_are_a_stage_where_there_are_some() -> None:
    shop = Shop(described_bundle())
    names = [stage["name"] for stage in (await preview(shop))["stages"]]
    assert "new_items" not in names
    shop.setting.catalog.apply(item_record("brand-new", attributes={"shelf": "shelf 2"}))
    shop.setting.catalog.compare_new_items(1.0)
    answer = await preview(shop, about="brand-new")
    passed = {stage["name"]: (stage["in"], stage["out"]) for stage in answer["stages"]}
    came, left = passed["new_items"]
    assert left == came + 1 == passed["arrangement"][0]


async def test_a_shown_item_has_a_position(shop: Shop) -> None:
    answer = await preview(shop, n=5)
    third = answer["items"][2]["item_id"]
    about = (await preview(shop, n=5, about=third))["about"]
    assert about == {"item_id": third, "position": 2, "fell": None}


def _changed(**changes: Any) -> Callable[[Shop], None]:
    return lambda shop: shop.setting.catalog.apply(item_record("item-05", 2, **changes)) or None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"available": False}, "unavailable"),
        ({"deleted": True}, "deleted"),
        ({"attributes": {"expires_at": 5}}, "expired"),
    ],
)
async def test_a_hidden_item_falls_at_availability(
    shop: Shop, change: dict[str, Any], reason: str
) -> None:
    _changed(**change)(shop)
    assert await fall(shop, "item-05") == ("availability", reason)


async def test_an_excluded_item_falls_at_the_rules(shop: Shop) -> None:
    assert await fall(shop, "item-05", exclude=["item-05"]) == ("rules", "excluded")
    assert await fall(shop, "item-05", filter="price > 100") == ("rules", "filter")
    first = await preview(shop, n=2)
    about = first["items"][0]["item_id"]
    assert await fall(shop, about, n=2, cursor=first["next_cursor"]) == ("rules", "earlier_page")


@pytest.mark.parametrize(
    "rule",
    [
        {"action": "include", "filter": "price > 100"},
        {"action": "exclude", "filter": 'brand == "asics"'},
        {"action": "exclude"},
    ],
)
async def test_the_rule_that_excludes_an_item_is_named(shop: Shop, rule: dict[str, Any]) -> None:
    shop.policy = {"rules": [{"name": "in vain", "action": "exclude", "filter": "price > 900"}]}
    assert numbers(await preview(shop, about="item-05", n=30)).count(5) == 1
    shop.policy["rules"].append({"name": "of the shop", **rule})
    fell = (await preview(shop, about="item-05"))["about"]["fell"]
    assert (fell["stage"], fell["reason"]) == ("rules", "rule")
    assert "of the shop" in fell["detail"]


async def test_a_seen_item_falls_with_its_group(shop: Shop) -> None:
    assert await fall(shop, "item-03") == ("rules", "seen")
    shop.policy = {"seen": "hide"}
    assert await fall(shop, "item-03") == ("rules", "seen")
    for name in ("item-03", "item-05"):
        shop.setting.catalog.apply(item_record(name, 2, attributes={"item_group_id": "g"}))
    assert await fall(shop, "item-05") == ("rules", "seen")
    shop.policy = {"seen": "show", "bought": "hide"}
    state = visitor("item-03")
    state.sequence = [state.sequence[0]._replace(event_type="purchase")]
    shop.setting.online.visitors["ada"] = state
    assert await fall(shop, "item-03") == ("rules", "bought")


async def test_of_a_group_or_a_cap_the_rest_falls_when_the_list_is_arranged(shop: Shop) -> None:
    best, second = numbers(await preview(shop, n=2))
    for number in (best, second):
        record = item_record(f"item-{number:02}", 2, attributes={"item_group_id": "g", "kind": "k"})
        shop.setting.catalog.apply(record)
    about = f"item-{second:02}"
    fell = (await preview(shop, n=5, about=about))["about"]["fell"]
    assert (fell["stage"], fell["reason"]) == ("arrangement", "group")
    assert f"item-{best:02} stands there" in fell["detail"]
    shop.policy = {
        "group_by": "",
        "rules": [{"name": "one kind", "action": "cap", "attribute": "kind", "most": 1}],
    }
    fell = (await preview(shop, n=5, about=about))["about"]["fell"]
    assert (fell["stage"], fell["reason"]) == ("arrangement", "cap")
    assert "one kind" in fell["detail"]


async def test_a_worn_out_or_buried_item_falls_when_the_list_is_arranged(shop: Shop) -> None:
    (first,) = numbers(await preview(shop, n=1))
    about = f"item-{first:02}"
    shop.policy = {
        "rules": [
            {"name": "b", "action": "bury", "factor": 0.001, "filter": f'item_id == "{about}"'}
        ]
    }
    assert await fall(shop, about, n=3) == ("arrangement", "rule")
    shop.policy = {"fatigue": 2}
    shown = [Impression(now_ms() - 1_000 * ago, about) for ago in (2, 1)]
    shop.setting.online.visitors["ada"].impressions = shown
    assert await fall(shop, about, n=3) == ("arrangement", "fatigue")


async def test_an_outranked_item_has_its_rank(shop: Shop) -> None:
    ranked = numbers(await preview(shop, n=30))
    fell = (await preview(shop, n=3, about=f"item-{ranked[6]:02}"))["about"]["fell"]
    assert fell["reason"] == "outranked"
    assert fell["detail"].startswith("it is seventh of ")


async def test_items_beyond_the_ranking_and_beyond_retrieval_fall_there(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked = numbers(await preview(shop, n=38))
    shop.setting.online.top = []
    monkeypatch.setattr(shop.setting.catalog, "look_alikes", lambda *_: [])
    monkeypatch.setattr("slipstream.slates.slate_plan.POOL", 4)
    fell = (await preview(shop, n=4, about=f"item-{ranked[8]:02}"))["about"]["fell"]
    assert (fell["stage"], fell["reason"]) == ("ranking", "beyond_first")
    own = stages.list_request
    monkeypatch.setattr(stages, "list_request", lambda n, allowed, _limit: own(n, allowed, 1))
    monkeypatch.setattr("slipstream.slates.slate_plan.POOL", 1)
    assert await fall(shop, f"item-{ranked[-1]:02}", n=1) == ("retrieval", "not_candidate")
    shop.setting.catalog.apply(item_record("brand-new"))
    assert await fall(shop, "brand-new", n=1) == ("new_items", "new_item")


async def test_a_model_that_fails_leaves_the_stages_of_the_others(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipstream.recommender.stages.answers", lambda *_: 1 / 0)
    answer = await preview(shop, n=3)
    assert answer["answered_by"] == "similar"
    names = [stage["name"] for stage in answer["stages"]]
    assert "retrieval" not in names and {"model", "similar"} < set(names)
