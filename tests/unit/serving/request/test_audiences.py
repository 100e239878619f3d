"""Audiences of items: who is in them, in which order, and why some are empty."""

import asyncio
from collections.abc import Sequence

import pytest

from services.serving.request import audiences
from services.serving.request.audiences import Audience, AudienceRequest
from services.serving.request.store_reads import OverloadedError
from slipstream.features.visitor import VisitorState
from slipstream.recommender.bundle import Bundle
from tests.unit.serving.fakes import (
    FakeOnline,
    Setting,
    described_bundle,
    history,
    item_record,
    model,
    visitor,
)


def active(at: int, *item_ids: str) -> VisitorState:
    return VisitorState(history(*item_ids), {"view": len(item_ids)}, 1, at)


def a_shop(bundle: Bundle) -> Setting:
    visitors = {
        "near": active(4, "item-03", "item-04"),
        "far": active(3, "item-30", "item-31"),
        "met": active(2, "item-04", "item-05"),
        "new": active(1, "unheard-of"),
    }
    return Setting(FakeOnline(visitors), model(bundle))


async def of(setting: Setting, item_id: str = "item-05", **more: object) -> Audience:
    request = AudienceRequest(item_id, **more)  # type: ignore[arg-type]
    return await setting.line.audiences.of(request)


def users(audience: Audience) -> list[str]:
    return [user.user_id for user, _ in audience.users]


async def test_those_come_first_whose_next_item_it_probably_is(bundle: Bundle) -> None:
    audience = await of(a_shop(bundle))
    assert users(audience) == ["near", "far"]
    (_, near), (_, far) = audience.users
    assert near.place == 1
    assert near.score > far.score > 0
    assert (audience.looked_at, audience.already_met) == (4, 1)
    assert (audience.active_since, audience.active_until) == (1, 4)
    assert audience.model_version == "1"
    assert audience.reasons == ["the model knows nothing of the history of 1 users"]


async def test_those_who_have_met_it_are_in_it_where_they_are_asked_for(bundle: Bundle) -> None:
    audience = await of(a_shop(bundle), include_met=True)
    assert set(users(audience)) == {"near", "far", "met"}
    assert audience.already_met == 0


async def test_it_is_as_long_as_was_asked_and_among_the_latest(bundle: Bundle) -> None:
    assert users(await of(a_shop(bundle), n=1)) == ["near"]
    audience = await of(a_shop(bundle), among=1)
    assert (users(audience), audience.looked_at, audience.active_since) == (["near"], 1, 4)


async def test_groups_make_no_difference_and_one_user_counts_once(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = a_shop(bundle)
    setting.online.visitors["device"] = active(5, "item-03", "item-04")
    setting.online.users_of["device"] = "near"
    whole = await of(setting)
    monkeypatch.setattr(audiences, "GROUP", 1)
    one_by_one = await of(setting)
    assert whole == one_by_one
    assert users(whole) == ["near", "far"]
    assert whole.users[0][0].active_at == 5


async def test_new_item_has_the_audience_of_those_that_it_is_like() -> None:
    setting = a_shop(described_bundle())
    assert setting.model is not None
    setting.catalog.mask(setting.model)  # as a warm-up does
    for item_id, attributes in (("like-05", {"shelf": "shelf 2"}), ("odd", {"shelf": "none"})):
        setting.catalog.apply(item_record(item_id, attributes=attributes))
    setting.catalog.compare_new_items(1.0)
    audience = await of(setting, "like-05")
    assert users(audience)[0] in ("near", "met")
    assert audience.users[0][1].score > 0
    nobody = await of(setting, "odd")
    assert (nobody.users, nobody.looked_at) == ((), 0)
    assert "nor one with similar attributes" in nobody.reasons[0]


async def test_reasons_say_why_nobody_is_in_it(bundle: Bundle) -> None:
    without_model = Setting(FakeOnline({"ada": visitor("a")}))
    assert (await of(without_model)).reasons == ["no model is loaded yet"]
    nobody = Setting(FakeOnline(), model(bundle))
    assert (await of(nobody)).reasons == ["no visitor has been active yet"]
    away = a_shop(bundle)
    away.online.away = True
    assert (await of(away)).reasons == ["the online store does not answer"]
    hidden = a_shop(bundle)
    hidden.catalog.apply(item_record("item-05", available=False))
    audience = await of(hidden)
    assert users(audience) == ["near", "far"]
    assert audience.reasons[0] == "the item can't be shown now"


async def test_time_ends_it(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = a_shop(bundle)
    monkeypatch.setattr(audiences, "GROUP", 1)
    times = iter([0.0, 1.0, audiences.LONGEST_S + 1])
    monkeypatch.setattr(setting.line.audiences, "_clock", lambda: next(times, 20.0))
    audience = await of(setting)
    assert users(audience) == ["near"]
    assert audience.reasons == ["time was over after 1 of 4 active visitors"]


async def test_request_that_would_wait_too_long_for_its_turn_is_refused(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting, began, refused = a_shop(bundle), asyncio.Event(), asyncio.Event()
    setting.line.audiences._visitor_s = 1.0
    read = setting.online.users

    async def reading(visitor_ids: Sequence[str]) -> dict[str, tuple[str, VisitorState]]:
        began.set()
        await refused.wait()
        return await read(visitor_ids)

    monkeypatch.setattr(setting.online, "users", reading)
    first = asyncio.create_task(of(setting))
    await began.wait()
    with pytest.raises(OverloadedError):
        await of(setting)
    refused.set()
    assert users(await first) == ["near", "far"]
    assert users(await of(setting)) == ["near", "far"]
