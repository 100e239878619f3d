"""The lake at one moment, as history is read: who is who, what was known of items, and the records
themselves.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from functools import cache
from typing import Any

import pyarrow as pa

from services.features.history.rows import FOLDED_COLUMNS
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import Position, StreamCatalogRecord, source_name, split_source
from slipstream.contracts.vocabulary import MERGED_INTO
from slipstream.features.identity import Identities, Link
from slipstream.features.training_rows import AttributeHistory
from slipstream.stores.lake import CATALOG, INTERACTIONS, SCHEMAS, Lake

# The columns of an interaction that are folded, and the user that its visitor is known to be.
HISTORY_SCHEMA = pa.schema(
    [*(SCHEMAS[INTERACTIONS].field(name) for name in FOLDED_COLUMNS), ("visitor", pa.string())]
)


class Known:
    """What the catalogue says of visitors and items, apart from any table, so that it can be sent
    to other processes.

    Holds the attributes of items that features are made of, every version, in memory.
    """

    def __init__(self, entries: Iterable[StreamCatalogRecord], attributes: Sequence[str]) -> None:
        """Of the catalogue's records in the order in which they replace each other."""
        self.attributes = tuple(attributes)
        links: list[Link] = []
        erasures: list[StreamCatalogRecord] = []
        known: list[tuple[str, int, dict[str, Any]]] = []
        for source, offset, record in entries:
            if record.entity == "identity":
                topic_id = split_source(source)[0]
                links.append(
                    Link(
                        record.entity_id,
                        str(record.attributes[MERGED_INTO]),
                        topic_id,
                        offset,
                        record.timestamp,
                    )
                )
            elif record.entity == "item":
                known.append((record.entity_id, record.timestamp, record.attributes))
            elif record.deleted:
                erasures.append(StreamCatalogRecord(source, offset, record))
        self.identities = Identities(links)
        self.merged = self.identities.merged()
        self.catalogue = AttributeHistory(known, attributes)
        self._links: dict[str, list[Link]] = {}
        for link in links:
            if link.visitor_id in self.merged:
                self._links.setdefault(self.merged[link.visitor_id], []).append(link)
        self._erased: dict[str, list[Position]] = {}
        for source, offset, record in erasures:
            self._erased.setdefault(self.identities.resolve(record.entity_id), []).append(
                Position(source, offset)
            )

    def links_to(self, user_id: str) -> list[Link]:
        """The links that make other visitors this user, directly or through others."""
        return self._links.get(user_id, [])

    def members(self, user_id: str) -> tuple[str, ...]:
        """The visitors who turned out to be this user."""
        return tuple(dict.fromkeys(link.visitor_id for link in self.links_to(user_id)))

    def erased(self, user_id: str) -> list[Position]:
        """The positions of the records that had this user's history erased."""
        return self._erased.get(user_id, [])


class Snapshot:
    """Versions of the tables, pinned when made; later appends are not seen. Holds the catalogue in
    memory.
    """

    def __init__(self, lake: Lake, attributes: Sequence[str]) -> None:
        self.lake = lake
        # Interactions first: what a link or an erasure that we know of was about is then not
        # missing.
        self.version, self.catalog_version = lake.version(INTERACTIONS), lake.version(CATALOG)
        self.covered = Covering(self)
        records = sorted(self._catalog(), key=_replacing)
        self.known = Known(records, attributes)
        # the newest record of each item and user
        self.entries = {
            (entry.record.entity, entry.record.entity_id): entry
            for entry in records
            if entry.record.entity != "identity"
        }

    def later(self) -> "Snapshot":
        """A snapshot of the newest versions. What is known of the catalogue is shared, where that
        has not changed.
        """
        version, catalog_version = self.lake.version(INTERACTIONS), self.lake.version(CATALOG)
        if catalog_version != self.catalog_version:
            return Snapshot(self.lake, self.known.attributes)
        after = copy(self)
        after.version = version
        after.covered = Covering(after)
        return after

    def count(self) -> int:
        return 0 if self.version is None else self.lake.count(INTERACTIONS, self.version)

    def records(self, since: "Snapshot | None" = None) -> Iterator[pa.RecordBatch]:
        """All interactions, in `HISTORY_SCHEMA`; or, perhaps with some others, those that an
        earlier snapshot did not have.
        """
        if self.version is None:
            return
        merged = self.known.merged
        if since is None or since.version is None:
            found = self.lake.scan(INTERACTIONS, self.version, FOLDED_COLUMNS)
        else:
            found = self.lake.scan_since(INTERACTIONS, self.version, since.version, FOLDED_COLUMNS)
        for batch in found:
            users = batch["user_id"]
            if merged:
                users = pa.array(
                    [merged.get(user_id, user_id) for user_id in users.to_pylist()], pa.string()
                )
            yield pa.RecordBatch.from_arrays([*batch.columns, users], schema=HISTORY_SCHEMA)

    def _catalog(self) -> Iterator[StreamCatalogRecord]:
        if self.catalog_version is None:
            return
        for batch in self.lake.scan(CATALOG, self.catalog_version):
            for row in batch.to_pylist():
                source = source_name(row.pop("topic_id"), row.pop("partition"))
                offset = row.pop("offset")
                attributes = json.loads(row.pop("attributes") or "{}")
                yield StreamCatalogRecord(
                    source, offset, CatalogRecord.model_construct(**row, attributes=attributes)
                )


class Covering:
    """How far a snapshot has come with a source, of whichever topic it is."""

    def __init__(self, snapshot: Snapshot) -> None:
        lake = snapshot.lake
        tables = ((INTERACTIONS, snapshot.version), (CATALOG, snapshot.catalog_version))
        asks = [lake.covered(table, version) for table, version in tables if version is not None]
        self._ask = cache(lambda source: max((ask(source) for ask in asks), default=-1))

    def __call__(self, source: str) -> int:
        return int(self._ask(source))


def _replacing(entry: StreamCatalogRecord) -> tuple[int, str, int]:
    return entry.record.timestamp, entry.source, entry.offset
