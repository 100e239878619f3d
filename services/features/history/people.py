"""People in the lake: whose erasure waits, what of them is too old, and what is kept of a user.

What both stores hold of a user is exported as lines of JSON.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import (
    Cut,
    Position,
    StreamCatalogRecord,
    has_passed,
    source_name,
    split_source,
    stands_before,
)
from slipstream.contracts.vocabulary import MERGED_INTO
from slipstream.features.identity import Identities, Link, is_proven, linked_user, links_of
from slipstream.features.visitor import VisitorState
from slipstream.stores.lake import CATALOG, Lake
from slipstream.stores.row_erasure import ROWS_OF_VISITORS, Hold, RowErasure


@dataclass(frozen=True, slots=True)
class ErasedPerson:
    """A request to erase a user, and the visitors that were this user before its cut.

    Slates made up to `slates_until` (ms) may come from a state that was not erased yet.
    """

    request: StreamCatalogRecord
    visitor_ids: frozenset[str]
    slates_until: int = 0

    @property
    def position(self) -> Position:
        """The position of the request."""
        return Position(self.request.source, self.request.offset)

    @property
    def rows(self) -> RowErasure:
        """The rows that are to go."""
        record = self.request.record
        return RowErasure(self.visitor_ids, record.cut, record.timestamp, self.slates_until)

    def takes(self, entry: StreamCatalogRecord) -> bool:
        """Whether an entry, or link, is about the person, and from before the cut or made before.

        A late link, made before and read behind the cut, is taken without its other visitor.
        """
        record = entry.record
        if self.visitor_ids.isdisjoint(names_of(record)):
            return False
        made_before = record.timestamp <= self.request.record.timestamp
        return _is_before(self.request, entry) or (made_before and not is_request(record))

    def ends(self, entries: Iterable[StreamCatalogRecord]) -> Cut:
        """The cut, and the ends behind late entries, which count instead where there are any."""
        late = dict[str, int]()
        for entry in entries:
            if self.takes(entry) and not _is_before(self.request, entry):
                late[entry.source] = max(late.get(entry.source, 0), entry.offset + 1)
        return {**self.request.record.cut, "": late}


def is_request(record: CatalogRecord) -> bool:
    """Whether the record asks for an erasure, and so waits in the lake until that is done."""
    return record.deleted and bool(record.cut)


def is_due(request: StreamCatalogRecord, committed: Mapping[str, int]) -> bool:
    """Whether both stores hold everything from before the cut, and the request itself.

    A topic that was recreated since holds nothing from before the cut.
    """
    request_end = {request.source: request.offset + 1}
    return has_passed(committed, {**request.record.cut, "": request_end})


def erased_people(entries: Iterable[StreamCatalogRecord]) -> list[ErasedPerson]:
    """The people whose erasure these entries request. The entries hold all their links."""
    entries = list(entries)
    links = [entry for entry in entries if entry.record.entity == "identity"]
    requests = [entry for entry in entries if is_request(entry.record)]
    people = list[ErasedPerson]()
    # One that stands before another comes first, since it takes links that the other would follow.
    for request in sorted(
        requests, key=lambda one: sum(_is_before(one, other) for other in requests)
    ):
        earlier = [person for person in people if _is_before(request, person.request)]
        identities = Identities(
            each
            for link in links
            if _is_before(request, link) and not any(person.takes(link) for person in earlier)
            for each in links_in(link)
        )
        people.append(ErasedPerson(request, identities.ids_proven(request.record.entity_id)))
    return people


def without_erased(entries: Sequence[StreamCatalogRecord]) -> list[StreamCatalogRecord]:
    """The entries without those that are too old for an erasure among them."""
    people = erased_people(entries)
    if not people:
        return list(entries)
    return [
        entry
        for entry in entries
        if is_request(entry.record) or not any(person.takes(entry) for person in people)
    ]


def entries_around(lake: Lake, user_ids: Collection[str]) -> list[StreamCatalogRecord]:
    """The entries of these users and of whoever is linked with them, at any distance.

    Each round reads the table once, and finds the links that are one step further away.
    """
    version = lake.version(CATALOG)
    found: dict[Position, StreamCatalogRecord] = {}
    names, known = set(user_ids), set[str]()
    while names - known:
        known |= names
        wanted = pa.array(names, pa.string())
        targets = pa.array(
            [orjson.dumps({MERGED_INTO: name}).decode() for name in names], pa.string()
        )
        for batch in lake.scan(CATALOG, version):
            of_people = pc.not_equal(batch["entity"], "item")
            theirs = pc.or_(
                pc.is_in(batch["entity_id"], wanted), pc.is_in(batch["attributes"], targets)
            )
            for row in batch.filter(pc.and_(of_people, theirs)).to_pylist():
                entry = stream_entry(row)
                found[Position(entry.source, entry.offset)] = entry
                if entry.record.entity == "identity":
                    names |= names_of(entry.record)
    return list(found.values())


def delete_rows(lake: Lake, people: Sequence[ErasedPerson], hold: Hold) -> dict[str, int]:
    """Delete the rows of what these people did and saw; returns their number by table."""
    erasures = [person.rows for person in people]
    return {table: lake.erase(table, erasures, hold) for table in ROWS_OF_VISITORS}


def erase_waiting(lake: Lake) -> None:
    """Delete the rows of all people with a pending erasure, so that they are not read again.

    The requests stay: rows may still come from before their cuts.
    """
    waiting: set[str] = set()
    for batch in lake.scan(CATALOG, columns=("entity_id", "cut"), only="deleted"):
        waiting.update(batch.filter(pc.is_valid(batch["cut"]))["entity_id"].to_pylist())
    if waiting:
        delete_rows(lake, erased_people(entries_around(lake, waiting)), lambda: None)


def stream_entry(row: dict[str, Any]) -> StreamCatalogRecord:
    """The entry in a row of the lake's catalogue."""
    source = source_name(row.pop("topic_id"), row.pop("partition"))
    offset = row.pop("offset")
    attributes = orjson.loads(row.pop("attributes") or "{}")
    cut = orjson.loads(row.pop("cut") or "{}")
    erasure_id = row.pop("erasure_id") or ""
    for flag in ("by_browser", "client_time", "proven"):
        row[flag] = bool(row[flag])
    record = CatalogRecord.model_construct(
        **row, attributes=attributes, cut=cut, erasure_id=erasure_id
    )
    return StreamCatalogRecord(source, offset, record)


def links_in(entry: StreamCatalogRecord) -> tuple[Link, ...]:
    """The links in an identity's entry."""
    return links_of(
        Link(
            entry.record.entity_id,
            str(entry.record.attributes[MERGED_INTO]),
            split_source(entry.source)[0],
            entry.offset,
            entry.record.timestamp,
            is_proven(entry.record),
        )
    )


def names_of(record: CatalogRecord) -> set[str]:
    """The visitors that a record about people concerns."""
    target = linked_user(record.attributes) if record.entity == "identity" else None
    return {record.entity_id} if target is None else {record.entity_id, target}


def _is_before(request: StreamCatalogRecord, entry: StreamCatalogRecord) -> bool:
    before = stands_before(request.record.cut, entry.source, entry.offset)
    return entry.record.timestamp <= request.record.timestamp if before is None else before


def exported(lake: Lake, user_id: str, state: VisitorState | None) -> Iterator[bytes]:
    """The user's data: one JSON object a line, `kind` first.

    `visitor` has the ids that are this user, and the state online. `entry` is a record about the
    user or a link, `interactions` and `recommendations` are rows of the lake. The events of every
    linked visitor are the user's. A visitor who is the user by a page's word alone is shown alone.

    Args:
        state: The user's state online; None when there is none.
    """
    entries = entries_around(lake, {user_id})
    identities = Identities(
        link for each in entries if each.record.entity == "identity" for link in links_in(each)
    )
    names = sorted(identities.ids_proven(user_id))
    yield _line(
        {
            "kind": "visitor",
            "ids": names,
            "counts": state.counts if state else {},
            "first_seen": state.first_seen if state else None,
            "last_seen": state.last_seen if state else None,
            "sequence": [event._asdict() for event in state.sequence] if state else [],
            "impressions": [each._asdict() for each in state.impressions] if state else [],
        }
    )
    for entry in entries:
        record = entry.record
        if not names_of(record).isdisjoint(names):
            yield _line({"kind": "entry", **record.model_dump(exclude={"cut"})})
    for table, (columns, _) in ROWS_OF_VISITORS.items():
        for row in _rows(lake, table, columns, names):
            yield _line({"kind": table, **row})


def _rows(
    lake: Lake, table: str, columns: Sequence[str], names: Sequence[str]
) -> Iterator[dict[str, Any]]:
    wanted = pa.array(names, pa.string())
    for batch in lake.scan(table):
        theirs = reduce(pc.or_, [pc.is_in(batch[column], wanted) for column in columns])
        yield from batch.filter(theirs).to_pylist()


def _line(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value) + b"\n"
