"""Replays: lists are made again as they were, whatever has changed since, or otherwise."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.serving.replay import replays as replays_module
from services.serving.replay.bodies import WhatIf
from services.serving.state import filter_masks
from slipstream.chassis.errors import ConflictError, NotFoundError, UnavailableError
from slipstream.contracts.circumstances import CATALOG_CHANGED, DOUBTS
from slipstream.contracts.placements import BoostRule
from slipstream.features.visitor import Impression, SequenceEvent, VisitorState
from slipstream.slates.catalogue import columns
from slipstream.slates.catalogue.model import Model
from slipstream.slates.slate_request import Step
from tests.unit.serving.fakes import (
    ITEMS,
    FakeOnline,
    history,
    ranking,
    visitor,
)
from tests.unit.serving.replay.past_services import PastShop

PAST = history("item-10", "item-11")
VISITORS = {
    "ada": visitor("item-03", "item-04"),
    "bob": visitor("item-23", "item-24", "item-25"),
    # Shown some items again and again without a response.
    "cyd": VisitorState(
        history("item-05"),
        {"view": 1},
        1,
        1,
        impressions=[Impression(9_999_999_999_999, ITEMS[6])],
    ),
}
RULES: dict[str, Any] = {
    "diversity": 0.4,
    "rules": [
        {"name": "no first", "action": "exclude", "filter": "number < 8"},
        {"name": "up", "action": "boost", "factor": 3, "filter": "number in [12, 13, 30]"},
        {"name": "third", "action": "pin", "position": 3, "filter": 'item_id == "item-20"'},
        {"name": "shelves", "action": "cap", "attribute": "shelf", "most": 1},
    ],
}
OTHER_RULES: dict[str, Any] = {"exploration": 0.5, "seen": "hide", "rules": RULES["rules"][1:]}


@pytest.fixture
def shop(
    models: tuple[Model, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PastShop]:
    # Masks and the list of new items follow the catalogue at once.
    monkeypatch.setattr(columns, "FRESH_S", 0.0)
    monkeypatch.setattr(filter_masks, "FRESH_S", 0.0)
    online = FakeOnline(
        VISITORS,
        [(item_id, 50.0 - place) for place, item_id in enumerate(ITEMS[::-1])],
        {"day": [(item_id, 1.0 / (1 + place)) for place, item_id in enumerate(ITEMS[::2])]},
    )
    shop = PastShop(online, models[0], tmp_path)
    shop.put_placement("home", RULES)
    shop.put_placement("calm", {"diversity": 1.0, "fatigue": 1})
    yield shop
    shop.replays.close()


def requests() -> list[dict[str, Any]]:
    """Requests of every kind."""
    boosts = [BoostRule(name="mine", action="boost", factor=9, filter="number == 18")]
    return [
        *({"user_id": name, "n": n} for name in VISITORS for n in (3, 12)),
        *({"user_id": name, "placement": place} for name in VISITORS for place in ("home", "calm")),
        {"user_id": "ada", "placement": "gone"},
        {"user_id": "nobody"},
        {"user_id": "ada", "filter": "number > 15", "n": 30},
        {"user_id": "bob", "filter": "shelf in seen", "exclude": frozenset({"item-26"})},
        {"user_id": "ada", "diversity": 0.9, "exploration": 0.6},
        {"user_id": "bob", "placement": "home", "boosts": boosts, "explain": True},
        {"user_id": "ada", "events": history("item-15"), "before": ("item-16", "item-17")},
        {"history": PAST, "repeats": True},
        {"history": (), "similar_to": ("item-08",), "steps": (Step.SIMILAR, Step.TRENDING)},
        {"history": (), "steps": (Step.TRENDING,), "placement": "home"},
        {"history": (), "steps": (Step.POPULAR, Step.TRENDING), "window": "day", "n": 30},
        {"history": (), "steps": (Step.NEW,)},
        {"user_id": "bob", "repeats": True, "steps": (Step.RECENT,)},
        {"history": (), "similar_to": ("item-02",), "steps": (Step.BOUGHT_TOGETHER, Step.SIMILAR)},
    ]


async def test_lists_are_the_same_after_a_swap_a_change_of_rules_and_one_of_the_catalogue(
    shop: PastShop, models: tuple[Model, Model]
) -> None:
    given = [await shop.ask(**wanted) for wanted in requests()]
    shop.design = {
        "placements": ["home"],
        "variants": [
            {"name": "now"},
            {"name": "other", "placement": "calm", "diversity": 0.2, "model": "canary"},
        ],
    }
    shop.variant_models["canary"] = models[1]
    given += [await shop.ask(**wanted) for wanted in requests()]
    for new in ("twin-1", "twin-2", "twin-3"):  # the same scores, until ids decide
        shop.put_item(new, shelf="shelf 7", number=50)
    shop.put_item("item-12", shelf="shelf 1", number=99)
    shop.put_item("item-13", deleted=True)
    shop.put_item("item-05", available=False)
    shop.promote(models[1])
    shop.put_placement("home", OTHER_RULES)
    shop.design = None
    given += [await shop.ask(**wanted) for wanted in requests()]
    shop.put_item("item-13", shelf="shelf 2", number=1)
    shop.put_placement("home", {})
    shop.setting.online.visitors, shop.setting.online.top = {}, []

    random.Random(1).shuffle(given)
    for answer in given:
        replay = await shop.replays.answer(answer.recommendation_id)
        assert replay.identical, (replay.difference, answer)
        assert [item.item_id for item in replay.rebuilt] == [it.item_id for it in answer.items]
    assert {answer.model_version for answer in given} == {"7", "8", None}
    assert {answer.answered_by for answer in given} == set(Step) - {Step.NONE, Step.BOUGHT_TOGETHER}
    replays = [await shop.replays.answer(answer.recommendation_id) for answer in given]
    assert {("now", "7"), ("other", "8")} <= {(it.variant, it.model) for it in replays}


async def test_what_if_shows_what_another_model_and_other_rules_change(
    shop: PastShop, models: tuple[Model, Model]
) -> None:
    answer = await shop.ask(user_id="ada", placement="home")
    shop.put_placement("home", OTHER_RULES)
    shop.promote(models[1])

    async def what_if(**change: Any) -> Any:
        return await shop.replays.what_if(answer.recommendation_id, WhatIf.model_validate(change))

    ids = [item.item_id for item in answer.items]
    assert ids[2] == "item-20"
    unpinned = await what_if(without_rules=["third"])
    assert (unpinned.identical, unpinned.notes) == (True, [])
    assert [item.item_id for item in unpinned.before] == ids
    assert unpinned.diff.left == ["item-20"]
    moved = {item.item_id: item.moved for item in unpinned.diff.items}
    assert (moved[ids[0]], moved[ids[3]]) == (0, 1)

    plain = await what_if(policy={})
    alone = await shop.replays.what_if(
        answer.recommendation_id, WhatIf.model_validate({"placement_revision": 2})
    )
    assert "item-20" not in [item.item_id for item in plain.after]
    assert "item-20" in [item.item_id for item in alone.after]
    with_other = await what_if(model_version="8")
    assert not with_other.diff.same_order
    boosted = await what_if(boosts=[{"filter": f'item_id == "{ids[1]}"', "factor": 1000}])
    assert boosted.after[0].item_id == ids[1]
    assert (await what_if(filter="number > 30")).after[0].item_id > "item-30"
    tired = await what_if(policy={"fatigue": 2})
    assert "impressions" in tired.notes[0]


async def test_what_if_names_the_items_that_rest(
    shop: PastShop, models: tuple[Model, Model]
) -> None:
    events = [SequenceEvent("item-03", "purchase", 1), SequenceEvent("item-04", "view", 2)]
    shop.setting.online.visitors["dan"] = VisitorState(events, {"view": 1}, 1, 2)
    shop.promote(models[1])
    answer = await shop.ask(user_id="dan")

    async def notes(policy: dict[str, Any]) -> list[str]:
        change = WhatIf.model_validate({"policy": policy})
        return (await shop.replays.what_if(answer.recommendation_id, change)).notes

    assert await notes({}) == [
        "item-03: hidden, since the visitor has bought it, and few buy it again, or so soon"
    ]
    assert await notes({"bought": "show"}) == []


async def test_a_list_of_an_older_mask_is_not_identical_and_that_is_told(
    shop: PastShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter_masks, "FRESH_S", 60.0)
    await shop.ask(user_id="ada", filter="number > 15")
    shop.put_item("item-19", shelf="shelf 9", number=3)
    answer = await shop.ask(user_id="ada", filter="number > 15")
    assert "item-19" in [item.item_id for item in answer.items]
    replay = await shop.replays.answer(answer.recommendation_id)
    assert not replay.identical
    assert replay.difference is not None
    assert replay.difference.recorded is not None
    assert replay.reasons[0] == DOUBTS[CATALOG_CHANGED]


async def test_what_can_not_be_made_again_says_why(
    shop: PastShop, models: tuple[Model, Model]
) -> None:
    answer = await shop.ask(user_id="ada", placement="home")
    ranked = await shop.setting.line.answer(ranking("ada", ["item-01"]))
    many = await shop.ask(user_id="ada", exclude=frozenset(f"{place:0200}" for place in range(100)))
    replays = shop.replays
    for recommendation_id, code in (
        (ranked.recommendation_id, "no_circumstances"),
        (many.recommendation_id, "circumstances_too_large"),
    ):
        with pytest.raises(ConflictError) as refused:
            await replays.answer(recommendation_id)
        assert refused.value.code == code
    with pytest.raises(NotFoundError):
        await replays.answer("nothing")
    for service in ("features", "monitoring"):
        shop.away = {service}
        with pytest.raises(UnavailableError, match=service):
            await replays.answer(answer.recommendation_id)
    shop.away, shop.in_service = set(), [models[1]]
    with pytest.raises(ConflictError, match="model 7"):
        await replays.answer(answer.recommendation_id)
    shop.away = {"training"}
    with pytest.raises(UnavailableError, match="training"):
        await replays.answer(answer.recommendation_id)


async def test_a_replay_waits_for_its_turn_but_not_for_ever(
    shop: PastShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = await shop.ask(user_id="ada")
    monkeypatch.setattr(replays_module, "LONGEST_WAIT_S", 0.01)
    async with shop.replays._turn:
        with pytest.raises(UnavailableError) as late:
            await shop.replays.answer(answer.recommendation_id)
        monkeypatch.setattr(replays_module, "MOST_WAITING", -1)
        with pytest.raises(UnavailableError) as refused:
            await shop.replays.answer(answer.recommendation_id)
    assert (late.value.code, refused.value.code) == ("replays_busy", "replays_busy")
    assert refused.value.headers["Retry-After"] == "5"
    monkeypatch.undo()
    assert (await shop.replays.answer(answer.recommendation_id)).identical


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"policy": {}, "placement_revision": 1},
        {"policy": {"rules": [{"name": "a", "action": "exclude", "filter": "price <"}]}},
        {"misspelt": 1},
    ],
)
def test_a_change_that_means_nothing_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="WhatIf"):
        WhatIf.model_validate(change)


async def test_circumstances_that_fail_cost_no_answer(shop: PastShop) -> None:
    shop.setting.catalog.changed_at = None  # type: ignore[assignment]
    assert (await shop.ask(user_id="ada")).items
    assert shop.setting.slates[-1].circumstances == {}
