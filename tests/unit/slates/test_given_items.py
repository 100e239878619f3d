"""Ranked lists: filter, boosts and rules over what the caller says of the items."""

from functools import partial
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.filters.evaluation import holds, values_of
from slipstream.filters.expressions import parsed
from slipstream.recommender.bundle import Bundle
from slipstream.slates import given_items
from slipstream.slates.catalogue.masks import mask
from slipstream.slates.given_items import GivenItems
from tests.unit.serving.app_on_fakes import URL
from tests.unit.serving.fakes import ITEMS, FakeOnline, Setting, item_record
from tests.unit.serving.request.test_line_rules import Shop

# Of the model's order, ada's next items come first: she saw 3 and 4.
NEXT, LATER = "item-05", "item-33"


@pytest.fixture
def shop(bundle: Bundle) -> Shop:
    return Shop(bundle)


async def rank(shop: Shop, *items: Any, **body: Any) -> dict[str, Any]:
    return await shop.ask("/v1/rank", items=list(items), **body)


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def offer(item_id: str, **features: Any) -> dict[str, Any]:
    return {"item_id": item_id, "features": features}


async def test_features_count_instead_of_the_catalogue_s_attributes(shop: Shop) -> None:
    # The catalogue has them at 50 and 330.
    answer = await rank(shop, offer(NEXT, price=500), offer(LATER), filter="price < 400")
    assert ids(answer) == [LATER]
    assert answer["reason"] == "1 items are left out by the filter or the rules"
    assert ids(await rank(shop, NEXT, LATER, filter="price < 400")) == [NEXT, LATER]


async def test_feature_of_null_takes_an_attribute_away(shop: Shop) -> None:
    answer = await rank(shop, offer(NEXT, price=None), LATER, filter="price is null")
    assert ids(answer) == [NEXT]


async def test_many_items_are_arranged_alike_beside_the_event_loop(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [offer(item_id, bid=place % 5) for place, item_id in enumerate(ITEMS)]
    asked = {"boosts": [{"filter": "bid > 2", "factor": 50}], "filter": "bid > 0"}
    answer = await rank(shop, *items, **asked)
    monkeypatch.setattr(given_items, "MANY", 0)
    assert (await rank(shop, *items, **asked))["items"] == answer["items"]


async def test_boosts_see_features_that_the_catalogue_does_not_have(shop: Shop) -> None:
    items = [offer(NEXT, distance_km=40), offer("item-06", distance_km=0.5)]
    assert ids(await rank(shop, *items)) == [NEXT, "item-06"]
    near = {"filter": "distance_km < 2", "factor": 1_000}
    far = {"filter": "distance_km > 30", "factor": 0.5}
    answer = await rank(shop, *items, boosts=[near, far], explain=True)
    assert ids(answer) == ["item-06", NEXT]
    assert [item["rules"] for item in answer["items"]] == [["request 1"], ["request 2"]]
    assert [rule["items"] for rule in answer["rules"]] == [["item-06"], [NEXT]]
    # Scores are the model's.
    assert answer["items"][0]["score"] < answer["items"][1]["score"]


async def test_boosts_order_items_that_nobody_knows_behind_all_others(shop: Shop) -> None:
    items = ["x", offer("y", open=True), NEXT]
    answer = await rank(shop, *items, boosts=[{"filter": "open", "factor": 2}])
    assert ids(answer) == [NEXT, "y", "x"]
    assert [item["score"] for item in answer["items"]][1:] == [0, 0]


async def test_placement_s_rules_apply_where_they_are_asked_for(shop: Shop) -> None:
    shop.policy = {
        "rules": [
            {"name": "in stock", "action": "include", "filter": "stock > 0"},
            {"name": "sold out soon", "action": "bury", "filter": "stock < 3", "factor": 0.001},
            {"name": "paid", "action": "pin", "position": 1, "filter": "bid > 1"},
            {"name": "one of a brand", "action": "cap", "attribute": "brand", "most": 1},
        ]
    }
    items = [
        offer(NEXT, stock=2),
        offer("item-06", stock=9),
        offer("item-09", stock=9),
        offer(LATER, stock=9, bid=3, brand="ours"),
        offer("item-07", stock=0),
    ]
    assert len(ids(await rank(shop, *items))) == 5
    answer = await rank(shop, *items, rules=True, explain=True)
    # 6 and 9 are of one brand.
    assert ids(answer) == [LATER, "item-06", NEXT]
    assert {rule["rule"]: rule["items"] for rule in answer["rules"]} == {
        "in stock": [],
        "sold out soon": [NEXT],
        "paid": [LATER],
        "one of a brand": ["item-09"],
    }
    slate = shop.setting.slates[-1]
    assert (slate.placement, slate.placement_revision, slate.purpose) == ("home", 1, "ranked")
    assert slate.rules == [["paid"], [], ["sold out soon"]]


async def test_rules_ask_for_the_context_and_for_the_visitor_s_items(shop: Shop) -> None:
    rule = {"name": "r", "action": "exclude", "filter": "brand in seen", "when": "market == 1"}
    shop.policy = {"rules": [rule]}
    # 3 and 4, which ada saw, are of nike and puma.
    items = [offer(NEXT, brand="nike"), offer(LATER, brand="asics")]
    assert ids(await rank(shop, *items, rules=True, context={"market": 1})) == [LATER]
    assert ids(await rank(shop, *items, rules=True, context={"market": 2})) == [NEXT, LATER]


async def test_items_that_were_seen_are_ranked_unless_the_placement_hides_them(shop: Shop) -> None:
    shop.policy = {"seen": "model", "bought": "show"}
    assert set(ids(await rank(shop, "item-03", NEXT, rules=True))) == {"item-03", NEXT}
    shop.policy = {"seen": "hide"}
    assert ids(await rank(shop, "item-03", NEXT, rules=True)) == [NEXT]


async def test_features_that_nothing_asks_for_are_named(shop: Shop) -> None:
    answer = await rank(shop, offer(NEXT, price=1, mood="good"), filter="price < 2 and colour != 1")
    assert answer["reason"] == (
        "no filter, boost or rule asks for the given mood; no item has an attribute colour"
    )
    shop.policy = {"diversity": 0.5}  # looks at all
    assert (await rank(shop, offer(NEXT, mood="good"), rules=True))["reason"] == ""


async def test_first_of_an_item_that_is_given_twice_counts(shop: Shop) -> None:
    items = [offer(NEXT), offer(NEXT, price=5_000), LATER]
    assert ids(await rank(shop, *items, filter="price < 400")) == [NEXT, LATER]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"items": ["a", offer("b", price={})]}, "body.items.1.features.price"),
        ({"items": [offer("", price=1)]}, "body.items.0.item_id"),
        ({"items": ["a", ""]}, "body.items.1.item_id"),
        ({"items": [offer("a", **{f"f{n}": n for n in range(21)})]}, "body.items.0.features"),
        ({"items": [offer("a", name="x" * 65)]}, "body.items.0.features.name"),
        ({"items": [offer("a", tags=["x"] * 21)]}, "body.items.0.features.tags"),
        ({"items": ["a"], "filter": "price <"}, "body.filter"),
        ({"items": ["a"], "rules": True, "placement": ""}, "body"),
        ({"items": ["a"] * 1_001}, "body.items"),
    ],
)
async def test_bad_items_are_refused_with_their_place(
    shop: Shop, body: dict[str, Any], field: str
) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(shop.app), base_url=URL) as client:
        answer = await client.post("/v1/rank", json={"user_id": "ada", **body})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"].startswith(field), answer.text


names = st.sampled_from(["a", "b", "c"])
values = st.one_of(
    st.booleans(), st.integers(-3, 3), st.sampled_from(["x", "y"]), st.lists(st.just("x"))
)
attributes = st.dictionaries(names, values)
conditions = st.sampled_from(
    ["a < 1", "b == 'x'", "not c", "a == 1 or 'x' in b", "b != null and c in ['x', 2]"]
)


@settings(max_examples=50)
@given(st.lists(attributes, max_size=4), st.lists(attributes, max_size=4), conditions)
def test_items_have_their_features_and_under_these_the_catalogue_s_attributes(
    known: list[dict[str, Any]], features: list[dict[str, Any]], expression: str
) -> None:
    catalog = Setting(FakeOnline()).catalog
    for place, its in enumerate(known):
        catalog.apply(item_record(f"i{place}", attributes=its))
    given_features = {f"i{place}": its for place, its in enumerate(features)}
    item_ids = [f"i{place}" for place in range(5)]
    condition = parsed(expression)
    source = GivenItems(catalog, given_features, item_ids, {"a", "b", "c"})
    found = mask(condition, source.listed(item_ids), {}).tolist()
    joined = [
        theirs | its
        for theirs, its in zip([*known, *[{}] * 5], [*features, *[{}] * 5], strict=False)
    ][:5]
    assert found == [
        holds(condition, partial(values_of, its), lambda _name, _own: set()) for its in joined
    ]
