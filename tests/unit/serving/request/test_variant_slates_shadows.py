"""Shadows of answers: what is recorded of them, and that no visitor waits for one."""

import asyncio

import pytest

from services.serving.request import variant_slates as shadows
from slipstream.contracts.events import Slate
from slipstream.contracts.vocabulary import SHADOW, SHOWN
from slipstream.recommender.bundle import Bundle
from tests.unit.serving.fakes import model
from tests.unit.serving.request.test_line_failing_parts import broken
from tests.unit.serving.request.test_variant_slates_experiments import OTHER, Shop, ids


@pytest.fixture
def shop(bundle: Bundle) -> Shop:
    made = Shop(bundle)
    made.design["kind"] = "shadow"
    made.design["variants"] = [{"name": "as-now"}, OTHER | {"model": "challenger"}]
    made.models["challenger"] = model(bundle, "8")
    return made


def counted(shop: Shop, outcome: str) -> int:
    name, labels = "slipstream_shadow_slates_total", {"outcome": outcome}
    return int(shop.setting.registry.get_sample_value(name, labels) or 0)


async def recorded(shop: Shop, n: int) -> list[Slate]:
    """The slates, when `n` shadows have been dealt with."""
    for _ in range(10_000):
        if counted(shop, "logged") + counted(shop, "dropped") >= n:
            return shop.setting.slates
        await asyncio.sleep(0)
    raise AssertionError("a shadow was neither logged nor dropped")


async def test_the_shown_list_comes_first_and_its_shadow_is_for_the_record(shop: Shop) -> None:
    answer = await shop.ask()
    assert (answer.experiment, answer.variant, answer.model_version) == ("calmer", "as-now", "7")
    assert min(ids(answer)) < "item-20" and len(shop.setting.slates) == 1
    shown, shadow = await recorded(shop, 1)
    assert (shown.purpose, shadow.purpose) == (SHOWN, SHADOW)
    assert (shadow.shadow_of, shadow.user_id) == (shown.recommendation_id, "ada")
    assert shadow.recommendation_id != shown.recommendation_id
    assert (shadow.experiment, shadow.variant, shadow.model_version) == ("calmer", "other", "8")
    # Its own model and its own rules.
    assert len(shadow.items) == 10
    assert all(item.item_id >= "item-20" for item in shadow.items)
    assert shadow.latency_ms > 0 and shadow.placement == "home"


async def test_the_holdout_has_no_shadow(shop: Shop) -> None:
    shop.design["traffic"] = 0.0
    assert (await shop.ask()).variant == "holdout"
    shop.design["traffic"] = 1.0
    await shop.ask()
    assert [slate.purpose for slate in await recorded(shop, 1)] == [SHOWN, SHOWN, SHADOW]


@pytest.mark.parametrize("why", ["absent", "failed"])
async def test_a_shadow_that_its_model_can_not_make_is_recorded_without_items(
    shop: Shop, bundle: Bundle, why: str
) -> None:
    del shop.models["challenger"]
    if why == "failed":
        shop.models["challenger"] = model(broken(bundle, *bundle.retrievers), "8")
    answer = await shop.ask()
    assert (answer.reason, answer.substituted) == ("", "")
    shadow = (await recorded(shop, 1))[-1]
    assert (shadow.substituted, shadow.items, shadow.model_version) == (why, [], None)


async def test_shadows_are_dropped_under_load(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadows, "MOST_WAITING", 3)
    await asyncio.gather(*(shop.ask() for _ in range(8)))
    await recorded(shop, 8)
    assert (counted(shop, "logged"), counted(shop, "dropped")) == (3, 5)
    monkeypatch.setattr(shadows, "LONGEST_WAIT_S", -1.0)
    await shop.ask()
    await recorded(shop, 9)
    assert (counted(shop, "logged"), counted(shop, "dropped")) == (3, 6)
