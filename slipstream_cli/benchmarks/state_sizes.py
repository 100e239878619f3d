"""Redis memory of a visitor with fifty events, and of an item in demand.

The figure is `MEMORY USAGE`, with the key. States are as folding the stream gives them, encoded by
the online store's encoders. Visitors have 50 events over 30 days, three in five of them on 20
favourite items. Items have 20 to 1,000 events, and all neighbours that are kept. Ids have the
usual lengths: UUIDs for visitors, ten characters for items.
"""

import random
import uuid
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, TypeVar

import redis

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.events import Interaction
from slipstream.contracts.times import DAY_MS
from slipstream.features import item, visitor
from slipstream.features.covisits import Covisit
from slipstream.features.item import ItemState
from slipstream.features.visitor import SequenceEvent, VisitorState
from slipstream.stores import layout
from slipstream.stores.keys import Keys
from slipstream_cli.benchmarks.measurements import BenchmarkError, Measurement
from slipstream_cli.benchmarks.traffic import TYPES

EVENTS: Final = 50
# Bytes that a visitor or an item should not exceed.
BAR_BYTES: Final = 1_024
_NOW: Final = 1_790_000_000_000
_PARTITIONS: Final = 12
# Number of states that are checked against folding.
_CHECKED: Final = 50
# States in one round trip to Redis.
_CHUNK: Final = 1_000

S = TypeVar("S", VisitorState, ItemState)


def run(
    settings: RedisSettings, namespace: str, *, visitors: int = 100_000, items: int = 10_000
) -> list[Measurement]:
    """Write states to Redis as the online store does, and measure the memory that each takes.

    Takes about a minute.

    Args:
        settings: The Redis to write to.
        namespace: A namespace that nothing else uses; what is written there expires after a day.
        visitors: Number of visitors written.
        items: Number of items written.
    """
    chance, keys = random.Random(7), Keys(namespace)
    client: Any = redis.Redis.from_url(settings.url.get_secret_value(), socket_timeout=30)
    try:
        of_visitors = _weigh(
            client, _visitors(chance, visitors), keys.visitor, layout.encode_visitor
        )
        of_items = _weigh(client, _items(chance, items), keys.item, layout.encode_item)
    finally:
        client.close()
    return [
        _row(
            "a visitor with 50 events in Redis",
            of_visitors,
            f"{visitors:,} visitors, 50 events each over 30 days",
        ),
        _row(
            "an item in Redis",
            of_items,
            f"{items:,} items with 20 to 1,000 events and {item.NEIGHBOURS_KEPT} neighbours",
        ),
    ]


def _weigh(
    client: Any,
    states: Iterable[tuple[str, S]],
    key: Callable[[str], str],
    encode: Callable[[S, bytes], bytes],
) -> list[int]:
    """Write the states, and return the bytes of each: key, value and the server's own bookkeeping
    (`MEMORY USAGE`).
    """
    rest = iter(states)
    sizes: list[int] = []
    while portion := list(islice(rest, _CHUNK)):
        pipeline = client.pipeline(transaction=False)
        for entity_id, state in portion:
            pipeline.set(key(entity_id), encode(state, layout.new_revision()), px=DAY_MS)
        for entity_id, _ in portion:
            # 0 samples: the server measures the whole value instead of estimating it.
            pipeline.memory_usage(key(entity_id), samples=0)
        sizes += pipeline.execute()[len(portion) :]
    return sizes


def _row(name: str, sizes: list[int], states: str) -> Measurement:
    mean, most = sum(sizes) / len(sizes), max(sizes)
    over = sum(size > BAR_BYTES for size in sizes)
    return Measurement(
        name=name,
        value=mean,
        unit="bytes",
        ceiling=float(BAR_BYTES),
        ratio=mean / BAR_BYTES,
        note=f"{states}; mean of MEMORY USAGE with the key, so lower is better;"
        f" the largest: {most}, over {BAR_BYTES}: {over}",
    )


def _visitors(chance: random.Random, count: int) -> Iterator[tuple[str, VisitorState]]:
    catalogue = [f"B{chance.randrange(10**9):09d}" for _ in range(50_000)]
    topic = uuid.UUID(int=chance.getrandbits(128))
    for number in range(count):
        favourites = chance.sample(catalogue, 20)
        times = sorted(_NOW - int(chance.random() * 30 * DAY_MS) for _ in range(EVENTS))
        sequence = [
            SequenceEvent(
                chance.choice(favourites if chance.random() < 0.6 else catalogue),
                chance.choice(TYPES),
                time,
            )
            for time in times
        ]
        state = _visitor(sequence)
        if number < _CHECKED and visitor.fold_all(None, map(_interaction, sequence)) != state:
            raise BenchmarkError("folding gives another visitor's state than this benchmark")
        state.applied = {f"{topic}:{chance.randrange(_PARTITIONS)}": chance.randrange(10**7)}
        yield str(uuid.UUID(int=chance.getrandbits(128))), state


def _visitor(sequence: list[SequenceEvent]) -> VisitorState:
    """Build the state that folding these events gives, in a quarter of the time.

    They must be fewer than a sequence holds.
    """
    counts: dict[str, int] = {}
    recent: dict[str, int] = {}
    for event in sequence:
        counts[event.event_type] = counts.get(event.event_type, 0) + 1
        recent[event.event_type] = event.timestamp
    return VisitorState(
        sequence,
        counts,
        sequence[0].timestamp,
        sequence[-1].timestamp,
        recent=recent,
        is_user=True,
    )


def _items(chance: random.Random, count: int) -> Iterator[tuple[str, ItemState]]:
    topic = uuid.UUID(int=chance.getrandbits(128))
    pool = [
        _interaction(
            SequenceEvent(
                "i",
                chance.choice((*TYPES, *("impression",) * 20)),
                _NOW - int(chance.random() * 30 * DAY_MS),
            )
        )
        for _ in range(20_000)
    ]
    for number in range(count):
        events = chance.sample(pool, chance.choice((20, 20, 20, 200, 200, 1_000)))
        pairs = [
            Covisit("i", other, _NOW - chance.randrange(20 * DAY_MS))
            for other in (
                f"B{chance.randrange(10**9):09d}" for _ in range(item.NEIGHBOURS_KEPT + 5)
            )
            for _ in range(chance.randrange(1, 10))
        ]
        state = item.fold_all(None, events, pairs)
        state.applied = {
            f"{topic}:{partition}": chance.randrange(10**6) for partition in range(_PARTITIONS)
        }
        yield f"B{number:09d}", state


def _interaction(event: SequenceEvent) -> Interaction:
    return Interaction(
        event_id="e", event_type=event.event_type, user_id="u", item_id=event.item_id,
        timestamp=event.timestamp, received_at=event.timestamp, value=event.value,
    )  # fmt: skip
