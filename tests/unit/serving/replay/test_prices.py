"""Prices: sampled slates are made again by a draft, and what followed from them is weighed."""

import asyncio
from collections.abc import AsyncIterator, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from services.serving.replay import prices as prices_module
from services.serving.replay.api import JsonLines
from services.serving.replay.bodies import Price, PriceLine, PriceRequest
from services.serving.request import line as line_module
from services.serving.state import filter_masks
from slipstream.chassis.errors import ConflictError, UnavailableError
from slipstream.contracts.times import DAY_MS, now_ms
from slipstream.slates.catalogue import columns
from slipstream.slates.catalogue.model import Model
from slipstream.slates.slate_plan import MadeSlate
from tests.unit.serving.fakes import (
    ITEMS,
    SHELVES,
    FakeOnline,
    visitor,
)
from tests.unit.serving.replay.past_services import PastShop

POLICY: dict[str, Any] = {
    "sampling": 1.0,
    "rules": [
        {"name": "no first", "action": "exclude", "filter": "number < 2"},
        {"name": "third", "action": "pin", "position": 3, "filter": 'item_id == "item-20"'},
    ],
}
VISITORS = {
    f"visitor {number}": visitor(*(ITEMS[(number + step) % 20] for step in range(3)))
    for number in range(24)
}


@pytest.fixture
def shop(
    models: tuple[Model, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PastShop]:
    monkeypatch.setattr(columns, "FRESH_S", 0.0)
    monkeypatch.setattr(filter_masks, "FRESH_S", 0.0)
    monkeypatch.setattr(prices_module, "_REST", 0.0)
    online = FakeOnline(
        VISITORS, [(item_id, 50.0 - place) for place, item_id in enumerate(ITEMS[::-1])]
    )
    made = PastShop(online, models[0], tmp_path)
    made.put_placement("home", POLICY)
    yield made
    made.replays.close()


async def asked(shop: PastShop, times: int = 1) -> list[MadeSlate]:
    """A slate of five items for each visitor, so often; the first item of each is clicked."""
    slates = [
        await shop.ask(user_id=name, placement="home", n=5)
        for _ in range(times)
        for name in VISITORS
    ]
    for slate in slates:
        shop.clicked[slate.recommendation_id] = [0]
    return slates


def wanted(**changes: Any) -> PriceRequest:
    known: dict[str, Any] = {
        "placement": "home",
        "since": now_ms() - DAY_MS,
        "until": now_ms() + DAY_MS,
    }
    return PriceRequest.model_validate(known | changes)


async def priced(shop: PastShop, **draft: Any) -> Price:
    lines = [line async for line in lines_of(await shop.prices.opened(wanted(draft=draft)))]
    assert [line.done for line in lines] == sorted(line.done for line in lines)
    assert lines[-1].price is not None, lines[-1].problem
    return lines[-1].price


async def lines_of(answer: AsyncIterator[bytes]) -> AsyncIterator[PriceLine]:
    async for line in answer:
        yield PriceLine.model_validate(orjson.loads(line))


async def test_a_placement_samples_the_share_that_it_says_and_records_the_probabilities(
    shop: PastShop,
) -> None:
    (answer, *_) = await asked(shop)
    record = shop.setting.slates[0]
    assert record.sampled
    assert record.propensities == list(answer.propensities)
    assert record.items[2].item_id == "item-20"
    assert record.propensities[2] == 1.0
    assert 0 < record.propensities[0] < 1
    replay = await shop.replays.answer(answer.recommendation_id)
    assert replay.identical, "a sampled order is drawn again for the same id"
    shop.put_placement("home", POLICY | {"sampling": 0.0})
    await asked(shop)
    assert not shop.setting.slates[-1].sampled
    assert not shop.setting.slates[-1].propensities


async def test_a_draft_like_the_log_changes_nothing(shop: PastShop) -> None:
    await asked(shop, 3)
    price = await priced(shop, policy=POLICY | {"sampling": 0.0})
    assert (price.slates, price.sampled, price.weighed, price.visitors) == (72, 72, 72, 24)
    assert price.left_out == {}
    (clicks,) = price.rewards
    assert clicks.logged == 1_000
    assert all(each.difference == pytest.approx(0, abs=1e-9) for each in clicks.estimates)


async def test_a_boost_of_what_is_clicked_brings_clicks(shop: PastShop) -> None:
    for slate in await asked(shop, 8):
        places = [place for place, it in enumerate(slate.items) if it.item_id in ITEMS[10:20]]
        shop.clicked[slate.recommendation_id] = places
    price = await priced(shop, boosts=[{"filter": "number >= 10 and number < 20", "factor": 3}])
    robust = price.rewards[0].estimates[0]
    assert (robust.assumption, robust.estimator) == ("position", "dr")
    assert robust.difference > 0
    assert robust.unsupported == 0
    buried = await priced(shop, policy=POLICY | {"rules": [
        *POLICY["rules"],
        {"name": "down", "action": "bury", "factor": 0.2, "filter": "number >= 10 and number < 20"},
    ]})  # fmt: skip
    assert buried.rewards[0].estimates[0].difference < 0


async def test_what_the_log_could_not_show_has_no_price(
    shop: PastShop, models: tuple[Model, Model]
) -> None:
    await asked(shop, 3)
    for draft in ({"without_rules": ["third"]}, {"placement_revision": 0}):
        for each in (await priced(shop, **draft)).rewards[0].estimates:
            assert (each.verdict, each.slates_needed) == ("cant_tell", None)
            assert each.unsupported > 0.1
    shop.promote(models[1])
    assert (await priced(shop, model_version="8")).weighed == 72


async def test_slates_of_one_moment_are_recomputed_as_catalogue_rules_and_models_were(
    shop: PastShop, models: tuple[Model, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_module, "now_ms", lambda moment=now_ms(): moment)
    await asked(shop)
    shop.put_item("item-05", available=False)
    shop.put_item("new", shelf="shelf 3", number=50)
    await asked(shop)
    shop.put_placement("home", POLICY | {"diversity": 0.3, "rules": POLICY["rules"][:1]})
    shop.promote(models[1])
    shop.put_item("item-05", available=True, number=5, shelf=SHELVES["item-05"])
    await asked(shop)
    price = await priced(shop, without_rules=["third"])
    assert (price.weighed, price.left_out) == (72, {})


async def test_a_slate_that_comes_out_otherwise_is_left_out(shop: PastShop) -> None:
    await asked(shop)
    record = shop.setting.slates[3]
    shop.setting.slates[3] = record.model_copy(update={"propensities": [0.5] * 5})
    shop.setting.slates[4] = shop.setting.slates[4].model_copy(update={"circumstances": {}})
    price = await priced(shop, diversity=0.5)
    assert price.weighed == 22
    assert price.left_out == {
        "the list comes out otherwise": 1,
        "no circumstances are recorded": 1,
    }


async def test_revenue_is_priced_in_one_currency(shop: PastShop) -> None:
    slates = await asked(shop, 2)
    for number, slate in enumerate(slates):
        shop.revenue[slate.recommendation_id] = [(1, 20.0, "EUR" if number % 2 else "USD")]
    with pytest.raises(ConflictError, match="several currencies") as refused:
        await shop.prices.opened(wanted(draft={"diversity": 0.1}))
    assert refused.value.code == "mixed_currencies"
    answer = await shop.prices.opened(wanted(draft={"diversity": 0.1}, currency="EUR"))
    price = [line async for line in lines_of(answer)][-1].price
    assert price is not None
    assert [(each.reward, each.currency) for each in price.rewards] == [
        ("clicks", None),
        ("revenue", "EUR"),
    ]
    assert price.rewards[1].logged == 10_000


async def test_without_a_log_or_with_an_unknown_rule_or_while_another_is_made_it_is_refused(
    shop: PastShop,
) -> None:
    with pytest.raises(ConflictError, match="sampling") as missing:
        await shop.prices.opened(wanted(draft={"diversity": 0.1}))
    assert missing.value.code == "no_logs"
    await asked(shop)
    with pytest.raises(RequestValidationError) as unknown:
        await shop.prices.opened(wanted(draft={"without_rules": ["thrid"]}))
    assert "did you mean" in str(unknown.value.errors()) and "third" in str(unknown.value.errors())
    with pytest.raises(ConflictError) as gone:
        await shop.prices.opened(wanted(draft={"placement_revision": 9}))
    assert gone.value.code == "revision_gone"
    first = await shop.prices.opened(wanted(draft={"diversity": 0.1}))
    with pytest.raises(UnavailableError) as busy:
        await shop.prices.opened(wanted(draft={"diversity": 0.1}))
    assert busy.value.code == "replays_busy"
    async for _ in first:
        break
    await first.aclose()
    assert (await priced(shop, diversity=0.1)).weighed == 24


@pytest.mark.parametrize("lines", [0, 1])
async def test_a_client_that_goes_away_ends_the_price_and_the_next_one_is_made(
    shop: PastShop, lines: int
) -> None:
    await asked(shop)
    answer, heard = await shop.prices.opened(wanted(draft={"diversity": 0.1})), asyncio.Event()

    async def receive() -> dict[str, Any]:
        if lines:
            await heard.wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            heard.set()

    await JsonLines(answer)({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)
    assert (await priced(shop, diversity=0.1)).weighed == 24


async def test_a_service_that_ceases_to_answer_ends_the_answer_with_the_problem(
    shop: PastShop,
) -> None:
    await asked(shop)
    shop.put_placement("home", POLICY)
    answer = await shop.prices.opened(wanted(draft={"diversity": 0.1}))
    shop.away.add("monitoring")
    shop.replays._placements.clear()
    *_, last = [line async for line in lines_of(answer)]
    assert last.problem is not None
    assert last.problem.code == "unavailable"


@pytest.mark.parametrize(
    "changes",
    [
        {"draft": {}},
        {"draft": {"exploration": 0.5}},
        {"draft": {"diversity": 0.5}, "until": 1},
        {"draft": {"diversity": 0.5}, "since": 1},
        {"draft": {"diversity": 0.5}, "slates": 10_001},
    ],
)
def test_wrong_requests_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        wanted(**changes)
