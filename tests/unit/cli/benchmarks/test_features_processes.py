"""Simulated visits for benchmarks."""

from collections import Counter

from slipstream_cli.benchmarks.features_processes import visits

NOW = 1_790_000_000_000


def test_visits_are_in_order_of_time_within_a_day_and_the_same_each_time() -> None:
    events = visits(2_000, 200, 50, NOW)
    assert events == visits(2_000, 200, 50, NOW)
    assert len(events) == len({event.event_id for event in events}) == 2_000
    times = [event.timestamp for event in events]
    assert times == sorted(times) and times[-1] <= NOW and times[0] > NOW - 25 * 3_600_000
    items = Counter(event.item_id for event in events).most_common()
    assert {event.user_id for event in events} == {f"v{number}" for number in range(200)}
    assert items[0][0] == "i0" and items[0][1] > 5 * items[-1][1]
