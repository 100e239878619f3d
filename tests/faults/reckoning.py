"""What must be in Redis and in the lake after some messages, against what is there.

Twice: with the functions that the platform folds by, and by plain counting that knows none of them.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from slipstream.broker.consumer import Consumer
from slipstream.chassis.settings import KafkaSettings, LakeSettings, RedisSettings
from slipstream.contracts.events import Interaction
from slipstream.contracts.page_visitors import apart_id
from slipstream.contracts.times import DAY_MS
from slipstream.contracts.topics import DEAD_LETTERS, INTERACTIONS
from slipstream.contracts.vocabulary import WITHOUT_SIGNAL, signal_weight
from slipstream.features import decay, item, visitor
from slipstream.features.decay import POPULAR_HALF_LIVES
from slipstream.features.visitor import SEQUENCE_LENGTH, SequenceEvent
from slipstream.stores import lake, layout
from slipstream.stores.connection import connect
from slipstream.stores.lake import Lake
from slipstream.stores.layout import Keys
from slipstream.stores.online import OnlineStore
from tests.faults.traffic import Event, Sent

SHOWN, SHOWN_LENGTH = 3, 200
_FIELDS = [*Event._fields]
_PLACE = ["topic_id", "partition", "offset"]


@dataclass
class Findings:
    """What is wrong, by kind, each with its instances; and what was counted on the way."""

    wrong: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    figures: dict[str, int] = field(default_factory=dict)

    def say(self, kind: str, instance: str) -> None:
        self.wrong[kind].append(instance)

    def lines(self) -> Iterator[str]:
        for kind, found in self.wrong.items():
            examples = "; ".join(one[:SHOWN_LENGTH] for one in found[:SHOWN])
            yield f"{kind}: {len(found):,}, such as {examples}"


@dataclass(frozen=True)
class Stores:
    """Where a stack keeps what it knows."""

    kafka: KafkaSettings
    redis: RedisSettings
    lake: LakeSettings
    namespace: str


def reckon(
    stores: Stores,
    acknowledged: Sequence[Sent],
    unacknowledged: Sequence[Sent],
    ingestions: int = 1,
) -> Findings:
    """Compare every state with the due one. An unacknowledged event may be there, once.

    Args:
        stores: Where the states are.
        acknowledged: Messages that had a 200.
        unacknowledged: Messages that never had one.
        ingestions: Processes of ingestion that published.
    """
    found = Findings()
    history = Lake(stores.lake, stores.namespace)
    rows = history.read(lake.INTERACTIONS, columns=[*_FIELDS, *_PLACE])
    present = compare_events(found, rows, acknowledged, unacknowledged)
    links = [sent.link for sent in acknowledged if sent.link] + _told_links(history, unacknowledged)
    users = _users(links)
    with closing(connect(stores.redis)) as client:
        _visitors(found, client, stores.namespace, present, users)
        _merges(found, client, stores.namespace, users)
    store = OnlineStore(stores.redis, stores.namespace)
    _items(found, store, present, rows, users)
    _trending(found, store, present)
    store.close()
    _topics(found, stores, ingestions)
    return found


def compare_events(
    found: Findings, rows: pa.Table, acknowledged: Sequence[Sent], unacknowledged: Sequence[Sent]
) -> list[Event]:
    """Compare the lake's interactions; the events that must be counted elsewhere."""
    due = {event.event_id: event for sent in acknowledged for event in sent.events}
    perhaps = {event.event_id: event for sent in unacknowledged for event in sent.events}
    known = due | perhaps
    copies: Counter[str] = Counter()
    for row in rows.select(_FIELDS).to_pylist():
        event = Event(**row)
        copies[event.event_id] += 1
        if event != known.get(event.event_id):
            found.say("altered" if event.event_id in known else "foreign", f"{event}")
    for event_id in due:
        if not copies[event_id]:
            found.say("lost", event_id)
    for event_id, times in copies.items():
        if times > 1:
            found.say("double", f"{event_id} ×{times}")
    found.figures |= {"events_due": len(due), "rows_in_lake": rows.num_rows}
    return [*due.values(), *(event for event_id, event in perhaps.items() if copies[event_id])]


def _told_links(history: Lake, sent: Sequence[Sent]) -> list[tuple[str, str]]:
    """The links of these messages that have come to the lake."""
    rows = history.read(lake.CATALOG, columns=["entity", "entity_id"]).to_pylist()
    told = {row["entity_id"] for row in rows if row["entity"] == "identity"}
    return [one.link for one in sent if one.link and one.link[0] in told]


def _users(links: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Who each linked visitor is in the end. No two links of the traffic contradict each other, and
    none closes a circle.
    """
    to = dict(links)

    def end(visitor_id: str) -> str:
        while visitor_id in to:
            visitor_id = to[visitor_id]
        return visitor_id

    return {visitor_id: end(visitor_id) for visitor_id in to}


def _visitors(
    found: Findings, client: Any, namespace: str, present: Sequence[Event], users: dict[str, str]
) -> None:
    theirs: dict[str, list[Event]] = defaultdict(list)
    for event in present:
        theirs[users.get(event.user_id, event.user_id)].append(event)
    keys = Keys(namespace)
    stored = _values(client, keys.visitor(""))
    # A server's link makes the visitor apart of the device the user, too.
    apart = {apart_id(visitor_id) for visitor_id in users}
    for visitor_id in stored.keys() - theirs.keys() - users.keys() - apart:
        found.say("foreign visitor", visitor_id)
    for visitor_id, events in theirs.items():
        value = stored.get(visitor_id)
        held = layout.decode_visitor_or_marker(value) if value else None
        if not isinstance(held, visitor.VisitorState):
            found.say("visitor without a state", f"{visitor_id}: {held}")
            continue
        due = visitor.fold_all(None, map(_interaction, events))
        for name in ("sequence", "counts", "first_seen", "last_seen", "recent", "tiles"):
            if getattr(held, name) != getattr(due, name):
                found.say(
                    f"visitor's {name}",
                    f"{visitor_id}: {_difference(getattr(held, name), getattr(due, name))}",
                )
        counts = Counter(event.event_type for event in events)
        newest = sorted(
            (
                (e.timestamp, e.item_id, e.event_type, e.value)
                for e in events
                if e.item_id and e.event_type not in WITHOUT_SIGNAL
            ),
            key=lambda one: one[:3],
        )[-SEQUENCE_LENGTH:]
        listed = [(e.timestamp, e.item_id, e.event_type, e.value) for e in held.sequence]
        if (held.counts, sorted(listed)) != (dict(counts), sorted(newest)):
            found.say(
                "visitor, counted plainly",
                f"{visitor_id}: {_difference(held.counts, dict(counts))}",
            )
    found.figures |= {"visitors": len(theirs)}


def _merges(found: Findings, client: Any, namespace: str, users: dict[str, str]) -> None:
    keys = Keys(namespace)
    for visitor_id in users:
        value = client.get(keys.visitor(visitor_id))
        held = layout.decode_visitor_or_marker(value) if value else None
        if not isinstance(held, layout.MergeMarker):
            found.say("not merged", visitor_id)
        elif held.state is not None:
            found.say("merge half done", visitor_id)
        elif users.get(held.to, held.to) != users[visitor_id]:
            found.say(
                "merged into another", f"{visitor_id}: {held.to} instead of {users[visitor_id]}"
            )
    found.figures |= {"visitors_merged": len(users)}


def _items(
    found: Findings,
    store: OnlineStore,
    present: Sequence[Event],
    rows: pa.Table,
    users: dict[str, str],
) -> None:
    on: dict[str, list[Event]] = defaultdict(list)
    for event in present:
        if event.item_id is not None:
            on[event.item_id].append(event)
    pairs = _pairs(
        rows,
        {
            event.user_id
            for event in present
            if event.user_id not in users and event.user_id.startswith("loner-")
        },
    )
    for item_id, held in zip(on, store.items(list(on)), strict=True):
        due = item.fold_all(None, map(_interaction, on[item_id]), pairs.get(item_id, ()))
        if held is None:
            found.say("item without a state", item_id)
            continue
        for name in ("counts", "hours", "days", "first_seen", "last_seen"):
            if getattr(held, name) != getattr(due, name):
                found.say(
                    f"item's {name}",
                    f"{item_id}: {_difference(getattr(held, name), getattr(due, name))}",
                )
        if held.counts != dict(Counter(event.event_type for event in on[item_id])):
            found.say("item, counted plainly", item_id)
        if held.mass is None or due.mass is None or abs(held.mass - due.mass) > 1e-6:
            found.say("item's popularity", f"{item_id}: {held.mass} instead of {due.mass}")
        if item_id.startswith("shelf-") and not _alike(held.neighbours, due.neighbours):
            found.say(
                "item's neighbours", f"{item_id}: {_difference(held.neighbours, due.neighbours)}"
            )
    found.figures |= {"items": len(on)}


def _pairs(rows: pa.Table, visitors: set[str]) -> dict[str, list[visitor.Covisit]]:
    """The pairs of items that these visitors make, by item. Which they are depends on the order of
    arrival, as the lake tells.
    """
    arrived: dict[str, list[tuple[int, Event]]] = defaultdict(list)
    for row in rows.to_pylist():
        if row["user_id"] in visitors:
            arrived[row["user_id"]].append(
                (row["offset"], Event(**{name: row[name] for name in _FIELDS}))
            )
    gained: dict[str, list[visitor.Covisit]] = defaultdict(list)
    for events in arrived.values():
        for told in visitor.pairs(None, [_interaction(event) for _, event in sorted(events)]):
            for pair in told:
                gained[pair.item_id].append(pair)
    return gained


def _trending(found: Findings, store: OnlineStore, present: Sequence[Event]) -> None:
    newest = max((event.timestamp for event in present), default=0)
    for window, half_life_ms in {"": float(DAY_MS), **POPULAR_HALF_LIVES}.items():
        masses: dict[str, float | None] = {}
        for event in present:
            if event.item_id is not None:
                weight = signal_weight(event.event_type)
                masses[event.item_id] = decay.add(
                    masses.get(event.item_id), weight, event.timestamp, half_life_ms
                )
        due = {
            item_id: decay.value(mass, newest, half_life_ms)
            for item_id, mass in masses.items()
            if mass is not None
        }
        held = dict(store.trending(len(due) + 1, window))
        for item_id in due.keys() | held.keys():
            present_value, wanted = held.get(item_id, 0.0), due.get(item_id, 1e-9)
            if abs(present_value / wanted - 1) > 1e-6:
                found.say("trending", f"{window} {item_id}: {present_value} instead of {wanted}")


def _topics(found: Findings, stores: Stores, ingestions: int) -> None:
    """No accepted event may end in the dead letters. Copies on the topic are no fault, since
    features finds them: but only if every copy behind the first says that it may be one. Copies
    from two processes may pass each other: one of them must not say so, whichever.
    """
    consumer = Consumer(stores.kafka, stores.namespace, [INTERACTIONS, DEAD_LETTERS], None)
    copies: dict[str, list[tuple[int, bool]]] = defaultdict(list)
    empty = 0
    try:
        ends = {source: end for source, end in consumer.ends().items() if end > 0}
        while ends and empty < 60:
            batch = consumer.poll(1.0)
            empty = 0 if batch else empty + 1
            ends = {
                source: end
                for source, end in ends.items()
                if batch.next_offsets.get(source, 0) < end
            }
            for message in batch.messages:
                if isinstance(message.record, Interaction):
                    copies[message.record.event_id].append(
                        (message.offset, message.record.maybe_repeat)
                    )
                else:
                    found.say("dead letter", f"{message.record.code}: {message.record.reason}")
    finally:
        consumer.close()
    if ends:
        found.say("topics not read to their end", str(ends))
    for event_id, places in copies.items():
        unmarked = [offset for offset, marked in places if not marked]
        if len(unmarked) > 1 or (ingestions == 1 and unmarked not in ([], [min(places)[0]])):
            found.say("repeat that does not say so", f"{event_id}: {sorted(places)}")
    records = sum(map(len, copies.values()))
    marked = sum(marked for places in copies.values() for _, marked in places)
    found.figures |= {
        "records_on_topic": records,
        "repeats_on_topic": records - len(copies),
        "marked_maybe_repeat": marked,
    }


def _values(client: Any, prefix: str) -> dict[str, bytes]:
    names = [name.decode() for name in client.scan_iter(match=f"{prefix}*", count=1_000)]
    return {
        name.removeprefix(prefix): value
        for start in range(0, len(names), 500)
        for name, value in zip(
            names[start : start + 500], client.mget(names[start : start + 500]), strict=True
        )
    }


def _interaction(event: Event) -> Interaction:
    return Interaction(**event._asdict(), received_at=event.timestamp)


def _alike(held: dict[str, int], due: dict[str, int]) -> bool:
    # Whole millionths, rounded each time that a pair is added, so that the order leaves a trace.
    return held.keys() == due.keys() and all(abs(held[name] - due[name]) < 100 for name in due)


def _difference(held: Any, due: Any) -> str:
    if isinstance(held, dict) and isinstance(due, dict):
        return ", ".join(
            f"{k} {held.get(k)} instead of {due.get(k)}"
            for k in sorted(held.keys() | due.keys())
            if held.get(k) != due.get(k)
        )
    if isinstance(held, list) and held and isinstance(held[0], SequenceEvent):
        surplus, missing = Counter(held) - Counter(due), Counter(due) - Counter(held)
        return (
            f"{len(held)} events instead of {len(due)}; "
            f"surplus {list(surplus)[:2]}, missing {list(missing)[:2]}"
        )
    return f"{held} instead of {due}"[:300]
