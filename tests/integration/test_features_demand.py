"""The lists of demand on a real server: trending items, and popular ones by window."""

import pytest

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.features.decay import POPULAR_WINDOWS
from slipstream.stores import folding
from slipstream.stores.online import OnlineStore, Retention
from tests.integration.test_features_online_store import NOW, placed, view


def test_trending_is_ordered_by_decayed_weight_and_forgets_when_the_half_life_changes(
    redis_settings: RedisSettings, namespace: str, store: OnlineStore
) -> None:
    store.apply(
        placed(
            [
                view("old", NOW - DAY_MS),
                view("old", NOW - DAY_MS + 1),
                view("new"),
                view("bought", kind="purchase"),
            ]
        )
    )
    trending = store.trending(10)
    assert dict(trending) == pytest.approx({"bought": 3.0, "new": 1.0, "old": 1.0}, rel=1e-6)
    assert store.trending(1)[0][0] == "bought"
    assert store.trending(0) == []

    faster = OnlineStore(redis_settings, namespace, Retention(trending_half_life_ms=HOUR_MS))
    faster.apply(placed([view("next", NOW + 1)], "t:1"))
    assert faster.trending(10) == [("next", pytest.approx(1.0))]
    faster.close()


def test_popular_items_are_those_of_the_window(
    redis_settings: RedisSettings, namespace: str, store: OnlineStore
) -> None:
    steady = [view("steady", NOW - days * DAY_MS) for days in range(1, 31)]
    lately = [view("lately", NOW - minute * 60_000) for minute in range(6)]
    records = placed([*steady, *lately, view("bought", NOW - 12 * HOUR_MS, kind="purchase")])
    store.apply(records)
    store.apply(records)  # once more, as after a crash
    assert {window: store.trending(1, window)[0][0] for window in POPULAR_WINDOWS} == {
        "hour": "lately",
        "day": "lately",
        "week": "lately",
        "month": "steady",
    }
    # Half of a day before the newest event, half of its weight is left.
    assert dict(store.trending(3, "day"))["bought"] == pytest.approx(1.5, rel=1e-6)
    before = store.trending(3, "month")
    faster = OnlineStore(redis_settings, namespace, Retention(trending_half_life_ms=HOUR_MS))
    faster.apply(placed([view("next", NOW)], "t:1"))
    assert [item for item, _ in faster.trending(3)] == ["next"]
    assert faster.trending(3, "month") == before
    faster.close()


def test_trending_keeps_only_the_highest(
    store: OnlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "TRENDING_KEPT", 20)
    store.apply(placed([view(f"i{number:03}", NOW + number * 1000) for number in range(100)]))
    assert {item for item, _ in store.trending(1_000)} == {
        f"i{number:03}" for number in range(80, 100)
    }
