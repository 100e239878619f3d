"""A seeded stream of shop events, and the states and rows that must come of it."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from slipstream.broker.producer import Producer
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.times import DAY_MS, now_ms
from slipstream.contracts.topics import INTERACTIONS, topic_of
from slipstream.contracts.vocabulary import MERGED_INTO
from slipstream.features import decay, item, visitor
from slipstream.features.decay import POPULAR_HALF_LIVES
from slipstream.stores import lake
from slipstream.stores.lake import Lake
from slipstream.stores.online import OnlineStore

TYPES = ("view", "view", "view", "click", "cart", "purchase", "search", "rate", "impression")


def events(
    count: int, *, visitors: int = 150, items: int = 80, seed: int = 7, first: int = 0
) -> list[Interaction]:
    """Events of the last hours, mostly in order of time."""
    chosen = random.Random(seed)
    now = now_ms()
    made = []
    for number in range(first, first + count):
        kind = chosen.choice(TYPES)
        made.append(
            Interaction(
                event_id=f"e{number}",
                event_type=kind,
                user_id=f"u{chosen.randrange(visitors)}",
                item_id=None if kind == "search" else f"i{chosen.randrange(items)}",
                timestamp=now - 3_600_000 + number * 100 + chosen.randrange(-60_000, 60_000),
                received_at=now,
                value=chosen.choice((1.0, 4.5, 5.0)) if kind == "rate" else None,
                session_id=f"s{number % 50}",
                properties={"n": number},
                # As ingestion marks what a visitor has said before, and a flood's visitors.
                weight=float(number % 3) if number % 5 == 0 else None,
                unlearned=number % 11 == 0,
            )
        )
    return made


def send(producer: Producer, made: Sequence[Interaction]) -> None:
    """Send all, and return when the broker has them."""
    for event in made:
        producer.send(INTERACTIONS, event.user_id, event)
    producer.flush(30)
    assert producer.failures == 0


def link(visitor_id: str, user_id: str) -> CatalogRecord:
    """The record that links a visitor to a user, as of now."""
    return CatalogRecord(
        entity="identity",
        entity_id=visitor_id,
        attributes={MERGED_INTO: user_id},
        timestamp=now_ms(),
    )


def send_entries(producer: Producer, entries: Iterable[CatalogRecord]) -> None:
    """Send records of the catalogue, and return when the broker has them."""
    for entry in entries:
        producer.send(topic_of(entry), f"{entry.entity}:{entry.entity_id}", entry)
    producer.flush(30)
    assert producer.failures == 0


def assert_exactly(
    made: Sequence[Interaction],
    store: OnlineStore,
    history: Lake,
    merged: Mapping[str, str] | None = None,
) -> None:
    """Assert that Redis and the lake hold exactly these events: none missing, none twice.

    `merged` gives the user of each visitor who was linked.
    """
    rows = history.read(lake.INTERACTIONS, columns=["event_id", "user_id", "timestamp"]).to_pylist()
    twice = [
        event_id
        for event_id, count in Counter(row["event_id"] for row in rows).items()
        if count > 1
    ]
    assert twice == []
    assert {(row["event_id"], row["user_id"], row["timestamp"]) for row in rows} == {
        (event.event_id, event.user_id, event.timestamp) for event in made
    }

    by_visitor: dict[str, list[Interaction]] = {}
    by_item: dict[str, list[Interaction]] = {}
    for event in made:
        by_visitor.setdefault((merged or {}).get(event.user_id, event.user_id), []).append(event)
        if event.item_id is not None:
            by_item.setdefault(event.item_id, []).append(event)
    for user_id, theirs in by_visitor.items():
        held, due = store.visitor(user_id), visitor.fold_all(None, theirs)
        assert held is not None, user_id
        assert (held.counts, held.sequence) == (due.counts, due.sequence), user_id
        assert held.impressions == due.impressions, user_id
        assert (held.first_seen, held.last_seen) == (due.first_seen, due.last_seen), user_id
    for visitor_id, user_id in (merged or {}).items():
        assert store.visitor(visitor_id) == store.visitor(user_id)
    for item_id, state in zip(by_item, store.items(list(by_item)), strict=True):
        due_item = item.fold_all(None, by_item[item_id])
        assert state is not None, item_id
        assert (state.counts, state.hours, state.days) == (
            due_item.counts,
            due_item.hours,
            due_item.days,
        ), item_id
        assert (state.mass is None) == (due_item.mass is None), item_id
        assert abs((state.mass or 0.0) - (due_item.mass or 0.0)) < 1e-6, item_id
    newest = max(event.timestamp for event in made)
    for window, half_life_ms in {"": float(DAY_MS), **POPULAR_HALF_LIVES}.items():
        masses: dict[str, float | None] = {}
        for event in (event for theirs in by_item.values() for event in theirs):
            assert event.item_id is not None
            weight = decay.demand_of(event)
            before = masses.get(event.item_id)
            masses[event.item_id] = decay.add(before, weight, event.timestamp, half_life_ms)
        listed = dict(store.trending(len(by_item), window))
        assert listed.keys() == {name for name, mass in masses.items() if mass is not None}, window
        for item_id, worth in listed.items():
            wanted = decay.value(masses[item_id], newest, half_life_ms)
            assert abs(worth / wanted - 1) < 1e-6, (window, item_id)
