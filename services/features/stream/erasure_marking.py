"""Marking of erased visitors: from a moment on, their late records are left out as they are read.

Everything that was read before that moment is in the lake once the group has committed the ends
that the topics had then, and the pass over the lake finds it there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import orjson
import pyarrow.compute as pc

from services.features.history.erased_people import ErasedPerson
from slipstream.contracts.late_records import (
    MARKED_MS,
    SLATE_LEEWAY_MS,
    ErasureMark,
    visitor_digest,
)
from slipstream.contracts.positions import Cut, Position, has_passed
from slipstream.contracts.times import now_ms
from slipstream.stores.lake import ERASURES, Lake
from slipstream.stores.online import OnlineStore


class _Marked(NamedTuple):
    """The marked visitors of an erasure, up to when slates are left out, and the ends after it."""

    visitor_ids: frozenset[str]
    slates_until: int
    ends: Cut


class ErasureMarking:
    """The marks of the erasures that wait, and of those of the last month. One thread uses it."""

    def __init__(self, lake: Lake, store: OnlineStore, ends: Callable[[], Cut]) -> None:
        self._lake, self._store, self._ends = lake, store, ends
        self._marked: dict[Position, _Marked] = {}
        self._receipts_seen: int | None = None
        self._known: dict[str, ErasureMark] = {}

    @property
    def marked(self) -> set[Position]:
        """The requests whose visitors are marked."""
        return set(self._marked)

    def mark(self, people: Sequence[ErasedPerson]) -> bool:
        """Mark visitors who are not marked yet; False where all are.

        Raises `StoreUnavailableError` and `BrokerUnavailableError`.
        """
        new = [
            person
            for person in people
            if person.position not in self._marked
            or not person.visitor_ids <= self._marked[person.position].visitor_ids
        ]
        if new:
            now = now_ms()
            until, marks = now + SLATE_LEEWAY_MS, dict[str, ErasureMark]()
            for person in new:
                mark = ErasureMark(person.request.record.timestamp, until)
                marks |= dict.fromkeys(map(visitor_digest, person.visitor_ids), mark)
            self._store.marks.put(marks)
            self._store.erasures.settle()
            ends = self._ends()  # What is read from behind them is read with the marks.
            for person in new:
                self._marked[person.position] = _Marked(person.visitor_ids, until, ends)
        return bool(new)

    def with_time(self, person: ErasedPerson) -> ErasedPerson:
        """The person with the time up to which slates are left out, where that is known."""
        marked = self._marked.get(person.position)
        return person if marked is None else replace(person, slates_until=marked.slates_until)

    def has_passed(self, request: Position, committed: Mapping[str, int]) -> bool:
        """Whether a group that has committed these offsets has everything from before the marks;
        True where there are none yet.
        """
        return request not in self._marked or has_passed(committed, self._marked[request].ends)

    def is_settled(self, person: ErasedPerson, committed: Mapping[str, int]) -> bool:
        """Whether no late record of a person can reach the lake any more."""
        marked = self._marked[person.position]
        return person.visitor_ids <= marked.visitor_ids and has_passed(committed, marked.ends)

    def forget(self, request: Position) -> None:
        """Forget an erasure that is done. The marks themselves stay."""
        self._marked.pop(request, None)

    def renew(self) -> None:
        """Mark visitors again where Redis has lost marks, by the receipts in the lake, and forget
        the marks that are too old.

        Raises `StoreUnavailableError` and `LakeUnavailableError`.
        """
        version, since = self._lake.version(ERASURES), now_ms() - MARKED_MS
        self._store.marks.forget(since)
        if version is None:
            return
        if version != self._receipts_seen:
            self._known = self._of_receipts(version)
            self._receipts_seen = version
        self._known = {name: mark for name, mark in self._known.items() if mark.asked_at > since}
        if self._store.marks.count() < len(self._known):
            self._store.marks.put(self._known)

    def _of_receipts(self, version: int) -> dict[str, ErasureMark]:
        """The marks that the receipts of a version of the lake's table hold."""
        known: dict[str, ErasureMark] = {}
        for batch in self._lake.scan(ERASURES, version):
            for row in batch.filter(pc.is_valid(batch["visitors"])).to_pylist():
                mark = ErasureMark(row["asked_at"], row["slates_until"])
                known |= dict.fromkeys(orjson.loads(row["visitors"]), mark)
        return known
