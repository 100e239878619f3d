"""Sizes of states, on a real Redis; and simulated visits."""

from collections import Counter

from bench import features
from slipstream.chassis.settings import RedisSettings

NOW = 1_790_000_000_000


def test_states_are_weighed_on_the_server(redis_settings: RedisSettings, namespace: str) -> None:
    rows = features.state_sizes(redis_settings, namespace, visitors=60, items=20)
    assert [row["unit"] for row in rows] == ["bytes", "bytes"]
    assert all(100 < row["value"] <= features.BAR_BYTES for row in rows)


def test_visits_are_in_order_of_time_within_a_day_and_the_same_each_time() -> None:
    events = features.visits(2_000, 200, 50, NOW)
    assert events == features.visits(2_000, 200, 50, NOW)
    assert len(events) == len({event.event_id for event in events}) == 2_000
    times = [event.timestamp for event in events]
    assert times == sorted(times) and times[-1] <= NOW and times[0] > NOW - 25 * 3_600_000
    items = Counter(event.item_id for event in events).most_common()
    assert {event.user_id for event in events} == {f"v{number}" for number in range(200)}
    assert items[0][0] == "i0" and items[0][1] > 5 * items[-1][1]
