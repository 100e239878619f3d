"""Benchmark of one features process: events/s into Redis and lake, reads against Feast, memory.

It runs on temporary servers, without the other services. The events are on the topic before the
process starts. The rate counts from its first batch until all events are in both stores, where it
is checked that each counted exactly once. The ceiling is a bare kafka-python consumer that reads
the same records and drops them.

Memory is that of Redis for a visitor with fifty events, and for an item in demand: `MEMORY USAGE`,
with the key. States are as folding the stream gives them, encoded by the online store's encoders.
Visitors have 50 events over 30 days, three in five of them on 20 favourite items. Items have 20 to
1,000 events, and all neighbours that are kept. Ids have the usual lengths: UUIDs for visitors, ten
characters for items.
"""

import bisect
import itertools
import os
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import redis

from bench import feature_reads
from bench.ceiling import raw_consumer_rate
from bench.load import answering, in_own_process
from bench.measurements import BenchmarkError, Measurement
from slipstream.broker.producer import Producer
from slipstream.broker.topics import ensure_topics
from slipstream.chassis.settings import KafkaSettings, RedisSettings
from slipstream.contracts.events import Interaction
from slipstream.contracts.times import DAY_MS
from slipstream.contracts.topics import INTERACTIONS
from slipstream.features import item, visitor
from slipstream.features.item import ItemState
from slipstream.features.visitor import Covisit, SequenceEvent, VisitorState
from slipstream.stores import layout
from slipstream.stores.layout import Keys
from slipstream.stores.online import OnlineStore
from slipstream_cli.local import servers
from slipstream_cli.local.plan import EXTERNAL, Plan
from slipstream_cli.local.processes import Child, start_together
from slipstream_cli.local.terminal import Terminal


@contextmanager
def event_servers(plan: Plan) -> Iterator[dict[str, Child]]:
    """Run the plan's embedded broker and Valkey for the block; yield them by name."""
    started: dict[str, Child] = {}
    try:
        if "broker" in plan.ports:
            started["broker"] = servers.broker(plan.ports["broker"]).start()
        if "valkey" in plan.ports:
            started["valkey"] = servers.valkey(
                plan.ports["valkey"], plan.directory / "valkey"
            ).start()
        yield started
    finally:
        for server in reversed(started.values()):
            server.stop()


@contextmanager
def features_processes(plan: Plan, namespace: str, ports: Sequence[int]) -> Iterator[list[Child]]:
    """Run a features process on each port for the block; yield them."""
    command, alive = [sys.executable, "-m", "services", "features"], answering("/health/live")
    with ExitStack() as opened:
        children = []
        for port in ports:
            output = opened.enter_context((plan.directory / f"features-{port}.log").open("wb"))
            environment = {
                **os.environ,
                **plan.service_environment("features"),
                "SLIPSTREAM_NAMESPACE": namespace,
                "SLIPSTREAM_HTTP__PORT": str(port),
            }
            child = Child(
                f"features on {port}",
                port,
                command,
                alive,
                grace_s=15.0,
                environment=environment,
                output=output,
            )
            opened.callback(child.stop)
            children.append(child)
        start_together(children, 60)
        yield children


def produce(kafka: KafkaSettings, namespace: str, events: Sequence[Interaction]) -> None:
    """Put the events on the topic. Raises BenchmarkError where the broker lacks some."""
    ensure_topics(kafka, namespace)
    producer = Producer(kafka, namespace, linger_ms=20)
    try:
        for number, event in enumerate(events, 1):
            producer.send(INTERACTIONS, event.user_id, event)
            if not number % 5_000:
                producer.flush()
        producer.flush(60)
        if producer.failures:
            raise BenchmarkError(f"the broker did not take {producer.failures} of the events")
    finally:
        producer.close()


def status(url: str) -> dict[str, Any]:
    """What a features process says of itself. Raises BenchmarkError where it does not."""
    answer = httpx.get(f"{url}/v1/status", timeout=30)
    if answer.status_code != 200:
        raise BenchmarkError(f"features answered {answer.status_code}: {answer.text[:300]}")
    told: dict[str, Any] = answer.json()
    return told


TYPES: Final = ("view",) * 10 + ("click",) * 5 + ("cart",) * 2 + ("purchase",)
# Fewest and most events of a visit, and seconds from each event to the next.
_VISIT: Final = (1, 12)
_PAUSE_S: Final = (3, 120)


def visits(
    count: int, visitors: int, items: int, until_ms: int, hours: float = 24.0
) -> list[Interaction]:
    """Make events in order of time; the same for the same arguments.

    Args:
        visitors: Number of visitors: v0, v1, … One that returns has several visits.
        items: Number of items: i0, i1, …, in demand by Zipf's law.
        until_ms: End of the time span, in ms since the epoch.
        hours: Its length.
    """
    chance = random.Random(11)
    demand = list(itertools.accumulate(1 / (rank + 1) for rank in range(items)))
    events: list[Interaction] = []
    for visit in itertools.count():
        visitor = visit if visit < visitors else chance.randrange(visitors)
        events += _visit(
            chance, f"v{visitor}", demand, until_ms - int(chance.random() * hours * 3_600_000)
        )
        if len(events) >= count:
            break
    events = events[:count]
    events.sort(key=lambda event: event.timestamp)
    return events


def _visit(
    chance: random.Random, visitor: str, demand: list[float], end_ms: int
) -> Iterator[Interaction]:
    when = end_ms
    for _ in range(chance.randint(*_VISIT)):
        when -= chance.randint(*_PAUSE_S) * 1_000
        yield Interaction(
            event_id=f"{chance.getrandbits(128):032x}",
            event_type=chance.choice(TYPES),
            user_id=visitor,
            item_id=f"i{bisect.bisect_left(demand, chance.random() * demand[-1])}",
            timestamp=when,
            received_at=when + 40,
            session_id=f"{visitor}-{end_ms}",
            source="shop",
            properties={"price": 19.99, "category": "shoes"},
        )


EVENTS_OF_VISITOR: Final = 50
# Bytes that a visitor or an item should not exceed.
BAR_BYTES: Final = 1_024
_NOW: Final = 1_790_000_000_000
_PARTITIONS: Final = 12
# Number of states that are checked against folding.
_CHECKED: Final = 50
# States in one round trip to Redis.
_CHUNK: Final = 1_000

S = TypeVar("S", VisitorState, ItemState)


def state_sizes(
    settings: RedisSettings, namespace: str, *, visitors: int = 100_000, items: int = 10_000
) -> list[Measurement]:
    """Write states to Redis as the online store does, and measure the memory that each takes.

    Takes about a minute.

    Args:
        namespace: A namespace that nothing else uses; what is written there expires after a day.
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
        times = sorted(_NOW - int(chance.random() * 30 * DAY_MS) for _ in range(EVENTS_OF_VISITOR))
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


NAMESPACE: Final = "bench"
EVENTS: Final = 200_000
VISITORS: Final = 20_000
ITEMS: Final = 5_000
_PATIENCE_S: Final = 300.0
# Each poll costs the service time (it counts the lake's rows), so polls are frequent only at the
# end.
_POLL_S: Final = 1.0
_POLL_AT_THE_END_S: Final = 0.2


def run(
    plan: Plan,
    feast_directory: Path,
    terminal: Terminal,
    *,
    events: int = EVENTS,
    seconds: float = 3.0,
    rounds: int = 3,
) -> list[Measurement]:
    """Run the benchmark.

    Args:
        plan: Ports and folders of the servers and of the features process.
        feast_directory: Folder that Feast is installed into at the first use. Where that fails,
            Feast's row is left out.
        seconds: Duration of each round of reads.
    """
    kafka = plan.kafka
    redis = RedisSettings(url=plan.environment[EXTERNAL["valkey"]], timeout_s=10)
    with event_servers(plan):
        terminal.progress(f"putting {events:,} events on the topic")
        produce(kafka, NAMESPACE, visits(events, VISITORS, ITEMS, int(time.time() * 1000)))
        ceiling = in_own_process(raw_consumer_rate, kafka, NAMESPACE, INTERACTIONS, 4_000)
        terminal.progress("measuring features")
        with features_processes(plan, NAMESPACE, [plan.ports["features"]]) as (features,):
            url = f"http://{features.address}"
            rows = [_stream(url, events, ceiling)]
            _check_counted_once(url, redis, events)
            address, repository = plan.environment[EXTERNAL["valkey"]], plan.directory / "feast"
            rows += feature_reads.run(
                url, address, feast_directory, repository, terminal, seconds=seconds, rounds=rounds
            )
        terminal.progress("measuring states in Redis")
        rows += state_sizes(redis, f"{NAMESPACE}-weight")
        terminal.progress("")
    return rows


def _stream(url: str, events: int, ceiling: float) -> Measurement:
    """Measure from the first applied batch until everything is in both stores."""
    first: tuple[float, int] | None = None
    deadline = time.perf_counter() + _PATIENCE_S
    while True:
        told = status(url)
        now = time.perf_counter()
        if first is None and told["applied"]:
            first = now, told["applied"]
        if told["caught_up"] and told["applied"] >= events:
            break
        if now > deadline:
            raise BenchmarkError(
                f"features applied {told['applied']} of {events} events in {_PATIENCE_S:g} s"
            )
        time.sleep(_POLL_S if told["applied"] < 0.9 * events else _POLL_AT_THE_END_S)
    if first is None or first[1] > events // 2:
        raise BenchmarkError("features was done before it could be measured; use more events")
    rate = (events - first[1]) / (now - first[0])
    return Measurement(
        name="broker to Redis and lake",
        value=rate,
        unit="events/s",
        ceiling=ceiling,
        ratio=rate / ceiling,
        note=f"one process, {events:,} events of {VISITORS:,} visitors on {ITEMS:,} items, the last"
        " lake append included; each counted exactly once in both, checked; ceiling: a bare"
        " kafka-python consumer that drops the same records",
    )


def _check_counted_once(url: str, redis: RedisSettings, events: int) -> None:
    rows = status(url)["lake"]["interactions"]
    store = OnlineStore(redis, NAMESPACE)
    ids = [f"v{number}" for number in range(VISITORS)]
    of_visitors = sum(sum(state.counts.values()) for state in map(store.visitor, ids) if state)
    of_items = sum(
        sum(state.counts.values())
        for state in store.items([f"i{number}" for number in range(ITEMS)])
        if state
    )
    store.close()
    if not rows == of_visitors == of_items == events:
        raise BenchmarkError(
            f"of {events} events, {rows} are in the lake, {of_visitors} in visitors' states,"
            f" {of_items} in items' states"
        )
