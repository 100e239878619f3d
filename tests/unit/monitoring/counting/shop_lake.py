"""A lake in memory, and rows of it with as little as a test has to say."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import SecretStr
from sqlalchemy import select

from services.monitoring.counting.counter import Counter
from services.monitoring.counting.credit import BUCKET_MS, EVENT_COLUMNS, SLATE_COLUMNS, Rules
from services.monitoring.counting.outcomes_repository import OutcomeTable
from services.monitoring.counting.tables import credits, outcomes, visitor_sums
from services.monitoring.people.repository import ErasureLedger
from services.monitoring.quality import Bucket, Counts
from slipstream.chassis.settings import DatabaseSettings
from slipstream.contracts.times import HOUR_MS
from slipstream.stores.lake_reader import LakeReader
from slipstream.stores.metadata import engine
from slipstream.stores.tables import CATALOG, INTERACTIONS, RECOMMENDATIONS, SCHEMAS

T0: Final = 1_790_000_100_000 // BUCKET_MS * BUCKET_MS
NOW: Final = T0 + 3 * HOUR_MS
Row = dict[str, Any]


def slate(user: str, at: int, items: str, number: int = 0, **values: Any) -> Row:
    """A slate `at` ms after T0, with an item a letter; of one time, each has a number."""
    known = {
        "recommendation_id": f"{T0 + at:012x}7{number:03x}8{0:015x}",
        "user_id": user,
        "timestamp": T0 + at,
        "items": [{"item_id": each, "score": 1.0, "source": "network"} for each in items],
        "model_version": "m1",
        "answered_by": "model",
        "placement": "home",
        "experiment": "",
        "variant": "champion",
        "features": '{"history_length": 3}',
        "purpose": "shown",
    }
    return known | values


def event(event_id: str, kind: str, user: str, item: str, at: int, **values: Any) -> Row:
    """An interaction `at` ms after T0; other properties than columns become `properties`."""
    columns = {name: values.pop(name) for name in list(values) if name in EVENT_COLUMNS}
    known = {
        "event_id": event_id,
        "event_type": kind,
        "user_id": user,
        "item_id": item,
        "timestamp": T0 + at,
        "properties": orjson.dumps(values).decode(),
    }
    return known | columns


def identity(visitor: str, person: str) -> Row:
    attributes = orjson.dumps({"user_id": person}).decode()
    return {"entity": "identity", "entity_id": visitor, "attributes": attributes, "deleted": False}


def table(name: str, rows: Sequence[Row]) -> pa.Table:
    """The rows with all columns of a table; others are null."""
    return pa.Table.from_pylist(list(rows), SCHEMAS[name])


def slates_of(rows: Sequence[Row]) -> pa.Table:
    return table(RECOMMENDATIONS, rows).select(SLATE_COLUMNS)


def events_of(rows: Sequence[Row]) -> pa.Table:
    return table(INTERACTIONS, rows).select(EVENT_COLUMNS)


class MemoryLake:
    """Tables with a version for each append; the counter reads it as a `LakeReader`."""

    def __init__(self) -> None:
        self._appends: dict[str, list[pa.Table]] = {}
        self._offset = 0

    def append(self, slates: Sequence[Row] = (), events: Sequence[Row] = (), *links: Row) -> None:
        """Append rows to the tables, as one version each."""
        for name, rows in ((RECOMMENDATIONS, slates), (INTERACTIONS, events), (CATALOG, links)):
            if rows:
                placed = []
                for row in rows:
                    self._offset += 1
                    placed.append({"topic_id": "t", "partition": 0, "offset": self._offset} | row)
                self._appends.setdefault(name, []).append(table(name, placed))

    def version(self, name: str) -> int | None:
        return len(self._appends[name]) - 1 if name in self._appends else None

    def covered(self, _name: str, _version: int) -> Callable[[str], int]:
        return lambda _source: -1

    def scan(
        self,
        name: str,
        version: int,
        columns: Sequence[str],
        *,
        received_since: str | None = None,
        times: tuple[int, int] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        assert received_since is None or len(received_since) == 10
        for rows in self._appends[name][: version + 1]:
            if times is not None:
                of = rows["timestamp"]
                rows = rows.filter(
                    pc.and_(pc.greater_equal(of, times[0]), pc.less_equal(of, times[1]))
                )
            yield from rows.select(columns).to_batches()

    def scan_since(
        self, name: str, version: int, before: int, columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        for rows in self._appends[name][before + 1 : version + 1]:
            yield from rows.select(columns).to_batches()


class Shop:
    """A lake that is counted."""

    def __init__(self, migrated: Path, folder: Path) -> None:
        shutil.copy(migrated, folder)
        # As services open it, since one transaction must not wait for another of the same thread.
        url = SecretStr(f"sqlite:///{folder / migrated.name}")
        self.engine = engine(DatabaseSettings(url=url))
        self.lake, self.now = MemoryLake(), NOW
        self.table = OutcomeTable(self.engine, ErasureLedger(self.engine, 0).marks_of)
        self.counter = Counter(cast(LakeReader, self.lake), self.table, Rules(), lambda: self.now)
        self.counter._key = "k"

    def rows(self) -> tuple[list[Any], list[Any]]:
        with self.engine.connect() as db:
            return (
                sorted(map(tuple, db.execute(select(outcomes)))),
                sorted(map(tuple, db.execute(select(credits)))),
            )

    def lists(self) -> dict[Bucket, Counts]:
        """Lists of all time, with what followed from them."""
        return self.table.counts(0, 2**62)

    def sums(self) -> dict[tuple[str, int, str, str], Row]:
        """The sums of experiments' visitors by their keys."""
        with self.engine.connect() as db:
            rows = [dict(row._mapping) for row in db.execute(select(visitor_sums))]
        return {(r["experiment"], r["revision"], r["user_id"], r["variant"]): r for r in rows}
