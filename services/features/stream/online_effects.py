"""Effects of a batch on the online store: states, trending, the catalogue, merges and erasures."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from services.features.metrics import FeaturesMetrics
from services.features.stream.people import PeopleChanges, is_of_people, merge_and_erase
from slipstream.broker.batch import Message
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import Position, StreamCatalogRecord, StreamInteraction
from slipstream.contracts.topics import CATALOG, INTERACTIONS, PEOPLE
from slipstream.features.visitor import VisitorState
from slipstream.stores.online import OnlineStore


@dataclass(frozen=True, slots=True)
class OnlineChanges:
    """Changes that a batch made in the online store.

    `visitors` holds the changed states by user id, `request_ids` the request id of each visitor's
    newest interaction. `newest` is the newest event time in ms; 0 without interactions.
    `without_effect` has the positions of pages' records about people that had to change nothing.
    `patched` has the whole items that patches led to, and `missed` the patches without an item.
    """

    visitors: Mapping[str, VisitorState]
    request_ids: Mapping[str, str]
    newest: int
    people: PeopleChanges
    without_effect: Set[Position]
    patched: Mapping[Position, CatalogRecord]
    missed: Set[Position]

    def as_history(self, messages: Sequence[Message[Any]]) -> list[Message[Any]]:
        """The messages as the lake keeps them: patched items whole, and none without effect."""
        # Most batches have neither, and finding a message's position takes time.
        if not self.without_effect and not any(_is_patch(each.record) for each in messages):
            return list(messages)
        kept = []
        for message in messages:
            position, is_patch = message.position, _is_patch(message.record)
            if position in self.without_effect or (is_patch and position not in self.patched):
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
