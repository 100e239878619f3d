"""Memory of states in Redis, keys included: a visitor with 50 events, and a busy item."""

import random
import uuid

import pytest
import redis

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.events import Interaction
from slipstream.contracts.times import DAY_MS
from slipstream.features import item, visitor
from slipstream.features.visitor import IMPRESSIONS_KEPT, Covisit
from slipstream.stores import layout
from slipstream.stores.layout import Keys

NOW = 1_790_000_000_000
TYPES = ("view",) * 10 + ("click",) * 5 + ("cart",) * 2 + ("purchase",)
MOST_BYTES = 1024
# Redis gives values of 1,793 to 2,048 bytes as much as the largest of them; the key comes on top.
MOST_BYTES_WITH_IMPRESSIONS = 2304
STATES = 100


def made(kind: str, age_ms: float, item_id: str) -> Interaction:
    return Interaction(
        event_id="e",
        event_type=kind,
        user_id="u",
        item_id=item_id,
        timestamp=NOW - int(age_ms),
        received_at=NOW,
    )


def item_id(chance: random.Random) -> str:
    return f"B{chance.randrange(10**9):09d}"


def weights(redis_settings: RedisSettings, values: dict[str, bytes]) -> list[int]:
    client = redis.Redis.from_url(redis_settings.url.get_secret_value())
    for key, value in values.items():
        client.set(key, value, px=90 * DAY_MS)
    sizes = [client.memory_usage(key) or 0 for key in values]
    client.delete(*values)
    client.close()
    return sizes


@pytest.mark.parametrize(
    ("impressions", "most"), [(0, MOST_BYTES), (3 * IMPRESSIONS_KEPT, MOST_BYTES_WITH_IMPRESSIONS)]
)
def test_visitors_with_50_events_weigh_a_kilobyte_at_most_and_with_impressions_two_and_a_quarter(
    redis_settings: RedisSettings, impressions: int, most: int
) -> None:
    chance, keys = random.Random(5), Keys("slipstream")
    values = {}
    for _ in range(STATES):
        events = [
            made(chance.choice(TYPES), chance.random() * 30 * DAY_MS, item_id(chance))
            for _ in range(50)
        ]
        events += [
            made("impression", chance.random() * 2 * DAY_MS, item_id(chance))
            for _ in range(impressions)
        ]
        state = visitor.fold_all(None, events)
        state.applied = {f"{uuid.uuid4()}:{chance.randrange(12)}": chance.randrange(10**7)}
        values[keys.visitor(str(uuid.uuid4()))] = layout.encode_visitor(
            state, layout.new_revision()
        )
    sizes = weights(redis_settings, values)
    assert max(sizes) <= most, sizes


def test_items_with_a_month_of_events_and_all_neighbours_weigh_at_most_a_kilobyte(
    redis_settings: RedisSettings,
) -> None:
    chance, keys = random.Random(6), Keys("slipstream")
    topic = uuid.uuid4()
    values = {}
    for number in range(STATES):
        kinds = (*TYPES, *("impression",) * (40 if number % 2 else 0))
        events = [
            made(chance.choice(kinds), chance.random() * 30 * DAY_MS, "i")
            for _ in range(chance.choice((20, 200, 1000)))
        ]
        pairs = [
            Covisit("i", other, NOW - chance.randrange(20 * DAY_MS))
            for other in (item_id(chance) for _ in range(item.NEIGHBOURS_KEPT + 5))
            for _ in range(chance.randrange(1, 30))
        ]
        state = item.fold_all(None, events, pairs)
        state.applied = {f"{topic}:{partition}": chance.randrange(10**6) for partition in range(12)}
        values[keys.item(item_id(chance))] = layout.encode_item(state, layout.new_revision())
    sizes = weights(redis_settings, values)
    assert max(sizes) <= MOST_BYTES, sizes
