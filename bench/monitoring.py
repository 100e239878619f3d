"""Benchmark of counting outcomes: logs of several sizes in a lake, counted from nothing.

All logs have the same rate, so a longer one has more periods and no larger ones. The rate of
counting is set against a bare scan of the same columns. Then come a flood of events within one
bucket, a lake of an hour that is counted as it grows, and a report of a month of sums.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import SecretStr
from sqlalchemy import Engine, insert, select

from bench.load import in_own_process
from bench.measurements import BenchmarkError, Measurement
from services.monitoring.counting import outcomes
from services.monitoring.counting.counter import Counter
from services.monitoring.counting.credit import (
    BUCKET_MS,
    EVENT_COLUMNS,
    NAMED_MS,
    SLATE_COLUMNS,
    Rules,
)
from services.monitoring.counting.outcomes_repository import OutcomeTable
from services.monitoring.counting.tables import outcomes as sums
from services.monitoring.migrations import MIGRATIONS
from slipstream.chassis.settings import DatabaseSettings, LakeSettings
from slipstream.contracts.positions import Source
from slipstream.contracts.times import DAY_MS, HOUR_MS, now_ms
from slipstream.recommender.memory import peak_memory_mb
from slipstream.stores.lake import INTERACTIONS, RECOMMENDATIONS, SCHEMAS, Lake
from slipstream.stores.lake_reader import day_of
from slipstream.stores.metadata import engine
from slipstream.stores.migrations import migrate

EVENTS = (100_000, 1_000_000)
# Records of a second: one in three is a list of ten items, the others are responses to lists.
RATE = 60
_ITEMS, _PLACES, _CATALOGUE = 10, 3, 10_000
_ROWS = 20_000
# A tenth of the visits are of one id, in a log with one.
_SHARED = 0.1
# Events of a flooded bucket, each of an id of its own.
FLOODS = (600_000, 1_200_000)
# Records of a second in a busy shop.
BUSY_RATE = 500
_NAMESPACE = "bench"


def run(
    folder: Path, events: Sequence[int] = EVENTS, tell: Callable[[str], None] = lambda _: None
) -> list[Measurement]:
    """Count logs of each number of records.

    Args:
        folder: An empty folder for lakes and databases, which are deleted.
        tell: Gets what is done at present.
    """
    rows: list[Measurement] = []
    most = NAMED_MS // 1000 * RATE * 9 // 10
    for size in events:
        if size > most:
            raise BenchmarkError(f"give at most {most:,} events: older ones are not counted")
        tell(f"counting {size:,} records")
        rows += in_own_process(_counted, folder / str(size), size, False)
    tell("counting a log with a shared id")
    rows += in_own_process(_counted, folder / "shared", min(events), True)
    for size in FLOODS:
        tell(f"counting a bucket of {size:,} events")
        rows += in_own_process(_flooded, folder / "flood", size)
    tell("counting as the log grows")
    rows += in_own_process(_live, folder / "live")
    return rows


def _counted(folder: Path, size: int, shared: bool) -> list[Measurement]:
    """The rate of counting a log, its memory and disk, and the time of a month's report."""
    lake = _lake(folder)
    began_at = now_ms() - size * 1000 // RATE
    for begin in range(0, size, _ROWS):
        _append(lake, begin, min(_ROWS, size - begin), began_at, RATE, shared)
    scanned = _processor_time(lambda: _scan(lake))
    before_mb = peak_memory_mb()
    database, table, counter = _counter(folder, lake)
    took = _processor_time(counter.step)
    peak_mb = peak_memory_mb()
    disk = sum(path.stat().st_size for path in folder.glob("metadata.db*"))
    name = f"{size:,} records" + (", a tenth of one id" if shared else "")
    found = [
        Measurement(
            name=name,
            value=size / took,
            unit="records/s",
            ceiling=size / scanned,
            ratio=scanned / took,
            note=f"of processor time, set against a bare scan; {peak_mb:,.0f} MB at most,"
            f" {before_mb:,.0f} before; {disk / 1e6:,.0f} MB of SQL",
        )
    ]
    if not shared:
        found.append(_report(database, table))
    database.dispose()
    shutil.rmtree(folder)
    return found


def _report(database: Engine, table: OutcomeTable) -> Measurement:
    """The time of a report on 30 days that are like the day of the log with most sums."""
    now = now_ms()
    with database.begin() as db:
        of_day = select(sums).where(sums.c.length_ms == DAY_MS)
        days: dict[int, list[dict[str, object]]] = {}
        for row in db.execute(of_day):
            days.setdefault(row.start, []).append(dict(row._mapping))
        like = max(days.values(), key=len)
        for back in range(1, 31):
            start = now - now % DAY_MS - back * DAY_MS
            if start not in days:
                db.execute(insert(sums), [{**row, "start": start} for row in like])
    began = time.perf_counter()
    by: list[outcomes.Dimension] = ["placement", "position", "source"]
    since = now - now % DAY_MS - 30 * DAY_MS
    told = outcomes.report(table.rows(since, now), since, now, by, None, {})
    return Measurement(
        name="  report of 30 days by placement, position, source",
        value=1000 * (time.perf_counter() - began),
        unit="ms",
        note=f"{len(like):,} sums a day, {len(told.groups):,} groups",
    )


def _flooded(folder: Path, size: int) -> list[Measurement]:
    """The rate of counting a bucket full of events of other ids, and its memory.

    Half of the events name a list of the last three days that was never made.
    """
    lake = _lake(folder)
    clock = now_ms() - HOUR_MS
    clock -= clock % BUCKET_MS
    _append(lake, 0, _ROWS, clock, 2 * RATE, False)
    for begin in range(_ROWS, size, _ROWS):
        number = np.arange(begin, min(size, begin + _ROWS))
        at = clock + number * BUCKET_MS // size
        shown_at = at - np.random.default_rng(begin).integers(0, NAMED_MS, len(number))
        lists = np.array([f"{each:012x}7{0:03x}8{0:015x}" for each in shown_at])
        ids = np.char.add("flood-", number.astype(str))
        responses = {
            "event_id": ids,
            "event_type": np.where(number % 30 == 1, "purchase", "click"),
            "user_id": np.char.add("visitor-", ids),
            "anonymous_id": np.char.add("anonymous-", ids),
            "item_id": np.char.add("item-", (number % _CATALOGUE).astype(str)),
            "timestamp": at,
            "recommendation_id": np.where(number % 2 == 0, lists, ""),
        }
        _respond(lake, number, responses)
    before_mb = peak_memory_mb()
    database, _, counter = _counter(folder, lake, lambda: clock + BUCKET_MS)
    took = _processor_time(counter.step)
    peak_mb = peak_memory_mb()
    database.dispose()
    shutil.rmtree(folder)
    return [
        Measurement(
            name=f"a bucket of {size:,} events of as many ids",
            value=size / took,
            unit="records/s",
            note=f"of processor time; {peak_mb:,.0f} MB at most, {before_mb:,.0f} before",
        )
    ]


def _live(folder: Path) -> list[Measurement]:
    """The time of counting a bucket of a busy shop again, as it is each time while it is open."""
    lake = _lake(folder)
    clock = now_ms() - HOUR_MS
    clock -= clock % BUCKET_MS
    database, _, counter = _counter(folder, lake, lambda: clock + BUCKET_MS)
    size, step = BUSY_RATE * BUCKET_MS // 1000, BUSY_RATE
    for begin in range(0, size - step, _ROWS):
        _append(lake, begin, min(_ROWS, size - step - begin), clock, BUSY_RATE, False)
    counter.step()
    _append(lake, size - step, step, clock, BUSY_RATE, False)
    took = _processor_time(counter.step)
    database.dispose()
    shutil.rmtree(folder)
    return [
        Measurement(
            name=f"a bucket of {BUSY_RATE} records/s again",
            value=took,
            unit="s",
            note=f"after a second more, of {size:,} records; counting takes a fifth of a core,"
            f" so figures are {5 * took:.0f} s old then",
        )
    ]


def _lake(folder: Path) -> Lake:
    return Lake(LakeSettings(uri=str(folder / "lake")), _NAMESPACE)


def _counter(
    folder: Path, lake: Lake, clock: Callable[[], int] = now_ms
) -> tuple[Engine, OutcomeTable, Counter]:
    database = engine(DatabaseSettings(url=SecretStr(f"sqlite:///{folder / 'metadata.db'}")))
    migrate(database, MIGRATIONS)
    table = OutcomeTable(database, lambda _digests: {})
    return database, table, Counter(lake, table, Rules(), clock)


def _append(lake: Lake, begin: int, size: int, began_at: int, rate: int, shared: bool) -> None:
    """Append records: a list, then two responses to it, of which one names it."""
    rng = np.random.default_rng(begin)
    number = np.arange(begin, begin + size)
    at = began_at + number * 1000 // rate
    kind = number % 3
    visit = number // 3
    visitors = np.char.add("visitor-", (visit % (visit.max() // 5 + 2)).astype(str))
    if shared:
        visitors = np.where(visit % round(1 / _SHARED) == 0, "guest", visitors)
    place = rng.integers(0, _ITEMS, size)
    # The items of a list follow from its number.
    items = np.char.add(
        "item-", ((visit[:, None] * 7 + np.arange(_ITEMS)) % _CATALOGUE).astype(str)
    )
    ids = np.array([f"{began_at + each * 3000 // rate:012x}7{0:03x}8{each:015x}" for each in visit])
    day = np.full(size, day_of(int(at[0])))
    lists, responses = kind == 0, kind != 0
    own = {"topic_id": "t", "partition": 0, "experiment": "", "purpose": "shown"}
    flat = items[lists].ravel()
    sources = np.array(["network", "rules", "ease"])[np.arange(len(flat)) % 3]
    structs = pa.StructArray.from_arrays(
        [pa.array(flat), pa.array(np.ones(len(flat))), pa.array(sources)],
        ["item_id", "score", "source"],
    )
    offsets = np.arange(0, len(flat) + 1, _ITEMS, dtype=np.int32)
    _commit(
        lake,
        RECOMMENDATIONS,
        int(lists.sum()),
        number[lists],
        {
            **own,
            "recommendation_id": ids[lists],
            "user_id": visitors[lists],
            "timestamp": at[lists],
            "items": pa.ListArray.from_arrays(offsets, structs),
            "answered_by": "model",
            "model_version": "m1",
            "placement": np.char.add("place-", (visit[lists] % _PLACES).astype(str)),
            "features": '{"history_length": 3}',
            "received_date": day[lists],
        },
    )
    types = np.where(number % 30 == 1, "purchase", "click")
    _respond(
        lake,
        number[responses],
        {
            "event_id": np.char.add("e", number[responses].astype(str)),
            "event_type": types[responses],
            "user_id": visitors[responses],
            "item_id": items[np.arange(size), place][responses],
            "timestamp": at[responses],
            "recommendation_id": np.where(kind == 1, ids, "")[responses],
        },
    )


def _respond(lake: Lake, number: NDArray[np.int64], values: dict[str, NDArray[Any]]) -> None:
    """Append responses. Purchases have a value."""
    at = values["timestamp"]
    of_all = {
        "topic_id": "t",
        "partition": 0,
        "received_at": at,
        "value": np.where(values["event_type"] == "purchase", 9.5, 0.0),
        "properties": '{"currency": "EUR"}',
        "received_date": np.full(len(at), day_of(int(at[0]))),
    }
    _commit(lake, INTERACTIONS, len(number), number, {**of_all, **values})


def _commit(
    lake: Lake, name: str, size: int, offsets: NDArray[np.int64], values: dict[str, object]
) -> None:
    if not size:
        return
    given = {**values, "offset": offsets}
    columns = []
    for field in SCHEMAS[name]:
        value = given.get(field.name)
        if value is None:
            columns.append(pa.nulls(size, field.type))
        elif isinstance(value, str | int):
            columns.append(pa.array([value] * size, field.type))
        else:
            columns.append(pa.array(value).cast(field.type))
    rows = pa.table(columns, schema=SCHEMAS[name])
    lake.append(name, rows, {Source("t", "t", 0): int(offsets[-1])})


def _scan(lake: Lake) -> None:
    """Read what counting reads."""
    for name, columns in ((RECOMMENDATIONS, SLATE_COLUMNS), (INTERACTIONS, EVENT_COLUMNS)):
        for _ in lake.scan(name, None, columns):
            pass


def _processor_time(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
