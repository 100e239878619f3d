"""Effects of a batch on the online store, and the records that tell of them.

The effects are states, trending, the catalogue, merges and erasures: links of visitors to users,
and erasures of users, come as records of the catalogue. The records are feature updates and dead
letters.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, Final

from services.features.metrics import FeaturesMetrics
from slipstream.broker.producer import OutgoingRecord, Producer
from slipstream.broker.records import Message
from slipstream.contracts.events import CatalogRecord, DeadLetter, FeatureUpdate
from slipstream.contracts.positions import Position, StreamCatalogRecord, StreamInteraction
from slipstream.contracts.times import now_ms
from slipstream.contracts.topics import CATALOG, DEAD_LETTERS, FEATURE_UPDATES, INTERACTIONS, PEOPLE
from slipstream.features.views import RECOMMENDER, VISITOR
from slipstream.features.visitor import VisitorState, visitor_features
from slipstream.stores.online import OnlineStore

# Features of a visitor that an update carries.
_ANNOUNCED: Final = RECOMMENDER.of(VISITOR)
# Letters of one service share a partition, and so keep their order.
_LETTER_KEY: Final = "features"


class FeatureAnnouncer:
    """Sends feature updates, up to a rate, and dead letters, all of them."""

    def __init__(
        self,
        producer: Producer,
        updates_per_s: int,
        measured: FeaturesMetrics,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._producer, self._measured, self._clock = producer, measured, clock
        self._updates_per_s = float(updates_per_s)
        # Updates that may be sent now; each second adds `updates_per_s`, up to as many.
        self._updates_left, self._counted_at = self._updates_per_s, clock()

    def send_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Publish dead letters, and wait until the broker has them.

        Raises `BrokerUnavailableError`.
        """
        if letters:
            asyncio.run(
                self._producer.publish(
                    [
                        OutgoingRecord(DEAD_LETTERS, _LETTER_KEY, letter, letter.request_id)
                        for letter in letters
                    ]
                )
            )
        for letter in letters:
            self._measured.rejected.labels(letter.code).inc()

    def send_updates(
        self,
        visitors: Mapping[str, VisitorState],
        request_ids: Mapping[str, str],
        watermark: int,
        interactions: Iterable[Message[Any]] = (),
    ) -> None:
        """Send the features of changed visitors as of each one's last event.

        Above the rate a random sample is sent. The call does not wait for the broker.

        Args:
            visitors: The changed states by user id.
            request_ids: The request id of each visitor's newest message; "" where there is none.
            watermark: Newest event time applied, in ms.
            interactions: The messages that changed them.
        """
        now = self._clock()
        gained = (now - self._counted_at) * self._updates_per_s
        self._updates_left = min(self._updates_per_s, self._updates_left + gained)
        self._counted_at = now
        announced = list(visitors.items())
        if len(announced) > self._updates_left:
            announced = random.sample(announced, int(self._updates_left))
        self._updates_left -= len(announced)
        ends: dict[int, int] = {}
        received = updated_at = now_ms()
        for message in interactions:
            ends[message.source.partition] = message.offset + 1  # they come in order
            if message.record.received_at < received:
                received = message.record.received_at
        applied = {str(partition): end for partition, end in ends.items()}
        self._producer.send_all(
            [
                OutgoingRecord(
                    FEATURE_UPDATES,
                    user_id,
                    FeatureUpdate(
                        view="visitor",
                        entity_id=user_id,
                        features=visitor_features(state, state.last_seen, _ANNOUNCED),
                        watermark=watermark,
                        updated_at=updated_at,
                        applied={} if place else applied,
                        delay_ms=None if place or not applied else updated_at - received,
                    ),
                    request_ids.get(user_id, ""),
                )
                for place, (user_id, state) in enumerate(announced)
            ]
        )


@dataclass(slots=True)
class PeopleChanges:
    """Changes that links and erasures made online.

    `visitors` holds the changed states by user id; `links` counts links by outcome, `erasures` the
    users that were erased. `without_effect` has the positions of pages' links without effect.
    """

    visitors: dict[str, VisitorState] = field(default_factory=dict)
    links: Counter[str] = field(default_factory=Counter)
    erasures: int = 0
    without_effect: set[Position] = field(default_factory=set)


def is_of_people(record: CatalogRecord) -> bool:
    """Whether the record is a link or an erasure, not an entry to be stored."""
    return record.entity == "identity" or (record.entity == "user" and record.deleted)


def merge_and_erase(
    store: OnlineStore, messages: Iterable[Message[CatalogRecord]]
) -> PeopleChanges:
    """Erase users, then merge linked visitors, in the online store.

    The order between the two does not matter: each erasure and link has its place in the log.
    Raises `StoreUnavailableError`.
    """
    links, changes = list[StreamCatalogRecord](), PeopleChanges()
    for message in messages:
        record = StreamCatalogRecord(*message.position, message.record)
        if record.record.entity == "identity":
            links.append(record)
        else:
            store.erase(record)
            changes.erasures += 1
    linked = store.link(links)
    changes.visitors, changes.links = linked.changed, linked.outcomes
    changes.without_effect = linked.without_effect
    return changes


@dataclass(frozen=True, slots=True)
class OnlineChanges:
    """Changes that a batch made in the online store.

    `visitors` holds the changed states by user id, `request_ids` the request id of each visitor's
    newest interaction. `newest` is the newest event time in ms; 0 without interactions.
    `without_effect` has the positions of pages' records about people that had to change nothing.
    `patched` has the whole records that patches led to, and `missed` the patches without effect.
    """

    visitors: Mapping[str, VisitorState]
    request_ids: Mapping[str, str]
    newest: int
    people: PeopleChanges
    without_effect: Set[Position]
    patched: Mapping[Position, CatalogRecord]
    missed: Set[Position]

    def as_history(self, messages: Sequence[Message[Any]]) -> list[Message[Any]]:
        """The messages as the lake keeps them: patched items whole, and none without effect.

        Patches of users stay patches. A whole record behind an erasure's cut would have what a
        record before it said.
        """
        without_effect = self.without_effect | self.missed
        # Most batches have neither, and finding a message's position takes time.
        if not without_effect and not any(_is_patch(each.record) for each in messages):
            return list(messages)
        kept = []
        for message in messages:
            position, is_patch = message.position, _is_patch(message.record)
            if position in without_effect or (is_patch and position not in self.patched):
                continue
            kept.append(replace(message, record=self.patched[position]) if is_patch else message)
        return kept


class OnlineEffects:
    """Applies batches to the online store. One thread uses it."""

    def __init__(self, store: OnlineStore, measured: FeaturesMetrics) -> None:
        self._store, self._measured = store, measured
        self._races_counted = 0

    def apply(self, messages: Sequence[Message[Any]]) -> OnlineChanges:
        """Fold interactions into their states, then keep catalogue entries, then merge and erase.

        Records that the states hold already change nothing. Raises `StoreUnavailableError`.
        """
        interactions = [m for m in messages if m.source.topic == INTERACTIONS.name]
        catalog = [m for m in messages if m.source.topic in (CATALOG.name, PEOPLE.name)]
        entries = [m for m in catalog if not is_of_people(m.record)]
        with self._measured.apply_seconds.time():
            folded = self._store.apply(
                [StreamInteraction(*m.position, m.record) for m in interactions]
            )
            put = self._store.put_catalog(
                [StreamCatalogRecord(*m.position, m.record) for m in entries]
            )
            people = merge_and_erase(self._store, [m for m in catalog if is_of_people(m.record)])
        self._measured.lost_races.inc(self._store.lost_races - self._races_counted)
        self._races_counted = self._store.lost_races
        return OnlineChanges(
            visitors=folded | people.visitors,
            request_ids={m.record.user_id: m.request_id for m in interactions},
            newest=max((m.record.timestamp for m in interactions), default=0),
            people=people,
            without_effect=put.refused | people.without_effect,
            patched=put.patched,
            missed=put.missed,
        )


def _is_patch(record: Any) -> bool:
    return isinstance(record, CatalogRecord) and record.entity == "item_patch"
