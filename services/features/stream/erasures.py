"""Erasure from the lake, a job of its own: one pass over the tables for all erasures that wait.

An erasure waits as a row of the catalogue table, which the pass deletes last. So a killed pass is
done again. It begins when the group has committed everything from before the cut. The visitors are
marked then, and the pass waits once more for everything up to this moment: what is read later, and
was made before the erasure, is left out by the marks (`late_records`). What was read before is in
the lake once the group has committed the ends that the topics had then, and the pass finds it
there.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from services.features.history.archive import FOLDED_COLUMNS, stream_interactions
from services.features.history.people import (
    ErasedPerson,
    delete_rows,
    entries_around,
    erased_people,
    is_due,
    is_request,
    links_in,
    names_of,
    stream_entry,
)
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.chassis.logging import get_logger
from slipstream.contracts.late_records import (
    MARKED_MS,
    SLATE_LEEWAY_MS,
    ErasureMark,
    visitor_digest,
)
from slipstream.contracts.positions import (
    Cut,
    Position,
    StreamCatalogRecord,
    StreamInteraction,
    has_passed,
    in_order_of_logs,
    split_source,
)
from slipstream.contracts.times import DAY_MS, now_ms
from slipstream.features import history
from slipstream.features.identity import Identities, visitors_apart
from slipstream.features.visitor import VisitorState
from slipstream.stores.erasing import LastOffset
from slipstream.stores.lake import (
    CATALOG,
    ERASURES,
    INTERACTIONS,
    SCHEMAS,
    Lake,
    LakeLease,
    LakeUnavailableError,
)
from slipstream.stores.online import OnlineStore, StoreUnavailableError


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
        """The requests with marked visitors."""
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


log = get_logger(__name__)

# Attempts to put back what visitors did after the cut, while the lake is behind the online store.
_RESTORES: Final = 30
# Rows from behind a cut were received at most this long before the erasure was requested.
_RECEIVED_BEFORE_MS: Final = 7 * DAY_MS
# Pause until the next look at an erasure with marked visitors, in seconds.
_MARKED_PAUSE_S: Final = 1.0


@dataclass(slots=True)
class ErasurePass:
    """One pass: the people who are erased now, and the rows deleted, by table."""

    people: list[ErasedPerson] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)


class LakeErasures:
    """The job. One thread uses it."""

    def __init__(
        self,
        lake: Lake,
        store: OnlineStore,
        lease: LakeLease,
        committed: Callable[[], Mapping[str, int]],
        ends: Callable[[], Cut] = dict,
        tell: Callable[[Sequence[ErasedPerson]], None] = lambda _people: None,
    ) -> None:
        """
        Args:
            store: The online store, of this thread alone.
            lease: The lease on erasing, and the hold of the lake's writers.
            committed: The offset that the group has committed, by source; raises
                `BrokerUnavailableError`.
            ends: The ends of topics that may name a visitor; raises `BrokerUnavailableError`.
            tell: Tells other services of erasures; raises `BrokerUnavailableError`.
        """
        self._lake, self._store, self._lease = lake, store, lease
        self._committed, self._ends, self._tell = committed, ends, tell
        self._waiting: dict[Position, StreamCatalogRecord] = {}
        self._attempts: dict[Position, int] = {}
        self._marking = ErasureMarking(lake, store, ends)
        self._seen: int | None = None
        self._rows = Counter[str]()  # Deleted since the last pass that ended.
        # The ends of the topics when a visitor was first seen linked online alone.
        self._strays_seen: dict[str, Cut] = {}

    @property
    def waiting(self) -> int:
        """The number of erasures that wait."""
        return len(self._waiting)

    def run(self, stop: threading.Event, every_s: float) -> None:
        """Erase what is due every `every_s` seconds, until `stop` is set."""
        while not stop.wait(
            min(every_s, _MARKED_PAUSE_S)
            if self._marking.marked - self._attempts.keys()
            else every_s
        ):
            try:
                self._marking.renew()
                self.step()
            except (LakeUnavailableError, StoreUnavailableError, BrokerUnavailableError) as error:
                log.warning("erasures wait; they are tried again", reason=str(error))

    def step(self) -> ErasurePass:
        """One pass over what is due."""
        done = ErasurePass()
        self._look()
        if not self._waiting or not self._lease.take():
            return done
        committed = self._committed()
        due = {
            at
            for at, request in self._waiting.items()
            if is_due(request, committed) and self._marking.has_passed(at, committed)
        }
        if not due:
            return done
        began = time.monotonic()
        try:
            entries, people = self._people(due)
            if self._marking.mark(people):
                # Everything from before the marks may be committed at once.
                committed = self._committed()
                entries, people = self._people(due)
            people = [each for each in people if self._marking.is_settled(each, committed)]
            if not people:
                return done
            self._rows.update(delete_rows(self._lake, people, self._lease.hold))
            done.rows = dict(self._rows)
            done.people = self._restored(people, entries, committed)
            if done.people:
                self._tell(done.people)
                self._lake.append(ERASURES, self._receipts(done), {})
                done.rows[CATALOG] = self._delete_entries(done.people, people, entries)
        finally:
            self._lease.release()
        if done.people:
            self._rows.clear()
        for person in done.people:
            del self._waiting[person.position]
            self._marking.forget(person.position)
            self._attempts.pop(person.position, None)
        log.info(
            "users were erased from the lake",
            erasures=len(done.people),
            rows=done.rows,
            seconds=round(time.monotonic() - began, 3),
        )
        return done

    def _people(self, due: set[Position]) -> tuple[list[StreamCatalogRecord], list[ErasedPerson]]:
        """The entries around the due erasures, and the people that these erase."""
        entries = entries_around(self._lake, {self._waiting[at].record.entity_id for at in due})
        people = [
            self._marking.with_time(person)
            for person in erased_people(entries)
            if person.position in due
        ]
        if gone := due - {person.position for person in people}:  # Another replica was faster.
            due -= gone
            self._waiting = {at: each for at, each in self._waiting.items() if at not in gone}
            for at in gone:
                self._marking.forget(at)
            self._strays_seen.clear()
        return entries, people

    def _look(self) -> None:
        """Find the requests that wait, among the rows that came since the last look."""
        version = self._lake.version(CATALOG)
        if version is None or version == self._seen:
            return
        batches = (
            self._lake.scan(CATALOG, version, only="deleted")
            if self._seen is None
            else self._lake.scan_since(CATALOG, version, self._seen)
        )
        for batch in batches:
            asked = pc.and_kleene(batch["deleted"], pc.is_valid(batch["cut"]))
            for row in batch.filter(asked).to_pylist():
                request = stream_entry(row)
                self._waiting[Position(request.source, request.offset)] = request
        self._seen = version

    def _receipts(self, done: ErasurePass) -> pa.Table:
        """A row for each erasure of a pass. One that is done again has several: the last counts."""
        fields = {
            "erased_at": now_ms(),
            "rows": orjson.dumps(done.rows).decode(),
            "version": self._lake.version(INTERACTIONS),
            "ends": orjson.dumps(self._ends()).decode(),
        }
        return pa.Table.from_pylist(
            [
                {
                    **fields,
                    "erasure_id": each.request.record.erasure_id,
                    "visitors": orjson.dumps(
                        sorted(map(visitor_digest, each.visitor_ids))
                    ).decode(),
                    "asked_at": each.request.record.timestamp,
                    "slates_until": each.slates_until,
                }
                for each in done.people
            ],
            SCHEMAS[ERASURES],
        )

    def _delete_entries(
        self,
        done: Sequence[ErasedPerson],
        people: Sequence[ErasedPerson],
        entries: Sequence[StreamCatalogRecord],
    ) -> int:
        """Delete what the catalogue has of those who are done, and last their requests.

        An entry goes with the first erasure that takes it, whose people its link may tell.
        """
        requests = {person.position for person in done}
        rows = set[tuple[str, int, int]]()
        for entry in entries:
            position = Position(entry.source, entry.offset)
            first = next((person for person in people if person.takes(entry)), None)
            if position in requests or (first in done and position not in self._waiting):
                rows.add((*split_source(entry.source), entry.offset))
        return self._lake.delete(CATALOG, {None: rows}, self._lease.hold)

    def _restored(
        self,
        people: Sequence[ErasedPerson],
        entries: Sequence[StreamCatalogRecord],
        committed: Mapping[str, int],
    ) -> list[ErasedPerson]:
        """The people with everything in the online store that the lake still has.

        An event or a link from behind the cut may have been read before the erasure was, and was
        dropped with it.
        """
        left = [
            entry
            for entry in entries
            if not is_request(entry.record) and not any(person.takes(entry) for person in people)
        ]
        for person in people:
            self._store.erasures.erase_entries(person.visitor_ids, person.ends(entries))
        erased = set[str]().union(*(person.visitor_ids for person in people))
        names = erased.union(*(names_of(entry.record) for entry in entries))
        names.update(visitors_apart(names))
        others = set[str]().union(
            *(
                each.visitor_ids
                for each in erased_people(entries)
                if each.position not in {person.position for person in people}
            )
        )
        # Nothing older than these erasures can be read any more.
        self._store.erasures.forget(sorted(names - others))
        links = [entry for entry in left if entry.record.entity == "identity"]
        strays, parted = self._strays(names - others, links, committed)
        names |= parted
        # What the lake has had the right to its effect.
        self._store.link(sorted(links, key=lambda entry: (entry.source, entry.offset)), judged=True)
        users: dict[str, set[str]] = {}
        for name in sorted(names):
            members = self._store.erasures.members(name)
            users.setdefault(members[-1], set()).update(members)
        since = min(person.request.record.timestamp for person in people) - _RECEIVED_BEFORE_MS
        names = names.union(*users.values())
        records, covered = self._records(names, since if names == erased else None, committed)
        good = [
            self._restore([*sorted(members - {user_id}), user_id], records, covered)
            for user_id, members in users.items()
        ]
        self._store.erasures.forget(sorted(names - others))
        users_left = [each for each in left if each.record.entity in ("user", "user_patch")]
        self._store.put_catalog(in_order_of_logs(users_left))
        self._store.erasures.settle()  # This is not repeated once the request is deleted.
        done = []
        for person in people:
            attempts = self._attempts[person.position] = self._attempts.get(person.position, 0) + 1
            about = person.visitor_ids.union(
                *(names_of(entry.record) for entry in entries if person.takes(entry))
            )
            if (all(good) and not strays & about) or attempts >= _RESTORES:
                done.append(person)
        return done

    def _strays(
        self,
        names: set[str],
        links: Sequence[StreamCatalogRecord],
        committed: Mapping[str, int],
    ) -> tuple[set[str], set[str]]:
        """The visitors among these that are linked online and not in the lake, and those of whom
        nothing is known any more, since some of them were separated.

        Perhaps their links are on the way to the lake. Those whose links would be there by now are
        separated: a link from before the cut was read late, or a late link before its visitor was
        marked.
        """
        known = [link for entry in links for link in links_in(entry)]
        linked = {link.visitor_id for link in known}
        strays = set(self._store.erasures.merged_among(names - linked))
        ended = {
            name
            for name in strays & self._strays_seen.keys()
            if has_passed(committed, self._strays_seen[name])
        }
        identities, parted = Identities(known), set[str]()
        for visitor_id in ended:
            members = self._store.erasures.members(visitor_id)
            parted.update(members)
            # Its own visitors came along, and are linked to it again.
            for member in members:
                if identities.resolve(member) == identities.resolve(visitor_id):
                    self._store.erasures.separate(member)
        left = strays - ended
        ends = self._ends() if left - self._strays_seen.keys() else {}
        self._strays_seen = {name: self._strays_seen.get(name, ends) for name in left}
        return left, parted

    def _records(
        self, names: set[str], since_ms: int | None, committed: Mapping[str, int]
    ) -> tuple[dict[str, list[StreamInteraction]], LastOffset]:
        """What the lake has of these visitors, and the last offset of a source that it has."""
        version = self._lake.version(INTERACTIONS)
        records: dict[str, list[StreamInteraction]] = {name: [] for name in names}
        if version is None:
            return records, lambda source: committed.get(source, 0) - 1
        in_lake = self._lake.covered(INTERACTIONS, version)
        wanted, since = pa.array(names, pa.string()), None
        if since_ms is not None:
            since = datetime.fromtimestamp(max(0, since_ms) / 1000, UTC).strftime("%Y-%m-%d")
        for batch in self._lake.scan(INTERACTIONS, version, FOLDED_COLUMNS, received_since=since):
            rows = batch.filter(pc.is_in(batch["user_id"], wanted))
            for record in stream_interactions(rows.to_pydict()):
                records[record.interaction.user_id].append(record)
        return records, lambda source: max(in_lake(source), committed.get(source, 0) - 1)

    def _restore(
        self,
        members: Sequence[str],
        records: Mapping[str, Sequence[StreamInteraction]],
        covered: LastOffset,
    ) -> bool:
        """Whether the state of these visitors, who are one user, is as the lake has it."""
        theirs = [record for name in members for record in records[name]]
        state = VisitorState()
        if theirs:
            state = history.visitor_state(members[-1], history.in_order_of_arrival(theirs))
        return bool(self._store.erasures.restore(members, state, covered))
