"""The SQL of outcomes: sums by bucket, hour and day, credits of a month, and who became a user.

A period is replaced whole, in one transaction, so that counting it again changes nothing. Hours and
days are summed again from the lengths below them.
"""

import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Column, ColumnElement, Connection, Engine, delete, func, select, tuple_

from services.monitoring.counting import list_sums_repository as list_sums
from services.monitoring.counting.credit import (
    BUCKET_MS,
    CREDITS,
    DIMENSIONS,
    FEWEST_VISITORS,
    NAMED_MS,
    SUMS,
    Counted,
    Period,
    Touched,
    table_of,
)
from services.monitoring.counting.tables import (
    credits,
    identities,
    outcomes,
    progress,
)
from services.monitoring.counting.visitor_sums_repository import (
    all_starts,
    credits_of,
    expire_sums,
    keep_summed,
    mark_linked,
    record_sums,
    rows_of_visitors,
    slates_of,
    summed,
)
from services.monitoring.quality import Bucket, Counts
from slipstream.contracts.late_records import ErasureMark, visitor_digest
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.stores.metadata import chunks, insert_new, insert_rows, replacing, upsert

_PAIRS_AT_ONCE: Final = 1_000
_IDS_AT_ONCE: Final = 10_000
# Lengths of sums, each with the time that they are kept. A day is summed from its hours, and an
# hour from its buckets, which events that are late by `NAMED_MS` may still change.
_KEPT_MS: Final = {BUCKET_MS: NAMED_MS + 2 * DAY_MS, HOUR_MS: 31 * DAY_MS}

_OWED, _HASH_KEY = "owed", "hash_key"
_ROWS_AT_ONCE: Final = 5_000


class Progress(NamedTuple):
    """How far a table of the lake is counted.

    Attributes:
        version: The version that is counted; None before the first one.
        offsets: The last offset that is counted, by source.
        late: Number of rows that came too late.
    """

    version: int | None = None
    offsets: Mapping[str, int] = {}
    late: int = 0


class OutcomeRow(NamedTuple):
    """Sums of one combination of dimensions and a currency, with the hashes of visitors."""

    group: tuple[Any, ...]
    currency: str
    sums: tuple[int, ...]
    visitors: frozenset[int]


class OutcomeTable:
    """The outcomes, in SQL. Any thread may read; one thread at a time replaces.

    Args:
        engine: The database.
        marks_of: Returns the marks of erased visitors, by digest.
    """

    def __init__(
        self, engine: Engine, marks_of: Callable[[Collection[str]], Mapping[str, ErasureMark]]
    ) -> None:
        self._engine, self._marks_of = engine, marks_of

    def progress(self, name: str) -> Progress:
        """How far a table of the lake is counted."""
        with self._engine.connect() as db:
            found = _kept(db, name)
        return Progress() if found is None else Progress(*found)

    def advance(self, reached: Mapping[str, Progress]) -> None:
        """Keep how far tables are counted. Nothing is owed any more."""
        with self._engine.begin() as db:
            for name, each in sorted(reached.items()):
                _keep(db, name, tuple(each))
            _keep(db, _OWED, [])

    def owed(self) -> set[int]:
        """The buckets that must be counted again, since they depend on what has changed."""
        with self._engine.connect() as db:
            return set(_kept(db, _OWED) or ())

    def hash_key(self) -> str:
        """The key of the visitors' hashes, which is made when it is first needed."""
        made = orjson.dumps(secrets.token_hex(16)).decode()
        with self._engine.begin() as db:
            insert_new(db, progress, [{"name": _HASH_KEY, "body": made}])
            return str(_kept(db, _HASH_KEY))

    def designs(self) -> list[tuple[str, int, int]]:
        """Name of an experiment, time (ms) since when visitors are assigned so, and revision."""
        with self._engine.connect() as db:
            return all_starts(db)

    def summed(self, period: Period) -> list[tuple[int, str, int, int]]:
        """Bucket, topic, partition and last offset of slates that are in experiments' sums."""
        with self._engine.connect() as db:
            return summed(db, period)

    def counted_until(self) -> int | None:
        """The end of the newest bucket with sums."""
        query = select(func.max(outcomes.c.start)).where(outcomes.c.length_ms == BUCKET_MS)
        with self._engine.connect() as db:
            newest: int | None = db.scalar(query)
        return None if newest is None else newest + BUCKET_MS

    def left_out(self, names: Iterable[str]) -> dict[str, int]:
        """The number of rows that came too late or with a future time, by table of the lake."""
        late = {name: self.progress(name).late for name in names}
        return {name: count for name, count in late.items() if count}

    def merge(self, became: Iterable[tuple[str, str]]) -> None:
        """Keep the users that visitors became. The first word on a visitor counts.

        The buckets with purchases and refunds of theirs are owed another count, also if they are
        known: an earlier count may have ended before it.
        """
        wanted = self._not_erased(dict(reversed(list(became))))
        rows = [{"visitor": visitor, "person": person} for visitor, person in wanted.items()]
        with self._engine.begin() as db:
            insert_new(db, identities, rows)
            mark_linked(db, {*wanted, *wanted.values()})
            paid = _paid_buckets(db, {*wanted, *wanted.values()})
            _keep(db, _OWED, sorted(paid | set(_kept(db, _OWED) or ())))

    def _not_erased(self, became: Mapping[str, str]) -> dict[str, str]:
        ids = {*became, *became.values()}
        marks = self._marks_of([visitor_digest(each) for each in ids])
        erased = {each for each in ids if visitor_digest(each) in marks}
        return {
            visitor: person
            for visitor, person in became.items()
            if visitor not in erased and person not in erased
        }

    def persons(self, visitors: pa.Array) -> dict[str, str]:
        """The user of each visitor who became one, of all who became one of these persons."""
        i, found = identities.c, dict[str, str]()
        with self._engine.connect() as db:
            for begin in range(0, len(visitors), _IDS_AT_ONCE):
                some = visitors[begin : begin + _IDS_AT_ONCE].to_pylist()
                found |= _pairs(db, i.visitor, some) | _pairs(db, i.person, some)
            return found | _pairs(db, i.person, found.values())

    def past(self, touched: Touched, became: Mapping[str, str], since: int, until: int) -> pa.Table:
        """The credits of a time (ms) of visitors' items, whoever they were or became.

        Args:
            touched: The items of each visitor.
            became: The user of each visitor who became one.
            since: Begin of the time.
            until: Its end.
        """
        c, found, pairs = credits.c, list[Any](), touched.pairs
        ids = {*became, *became.values()}
        of_several = pc.is_in(pairs["visitor"], pa.array(ids, pa.string()))
        query = select(credits).where(c.at_ms >= since, c.at_ms < until)
        with self._engine.connect() as db:
            for batch in pairs.filter(pc.invert(of_several)).to_batches(_PAIRS_AT_ONCE):
                both = zip(*(column.to_pylist() for column in batch.columns), strict=True)
                found += db.execute(query.where(_of_pairs(both))).all()
            # A person with many ids may have touched many items: not each id with each item.
            items: dict[str, set[str]] = {}
            for row in pairs.filter(of_several).to_pylist():
                person = became.get(row["visitor"], row["visitor"])
                items.setdefault(person, set()).add(row["item_id"])
            for some in chunks(ids):
                for row in db.execute(query.where(c.user_id.in_(some))):
                    if row.item_id in items.get(became.get(row.user_id, row.user_id), ()):
                        found.append(row)
        return table_of(CREDITS, found)

    def replace(self, period: Period, counted: Counted) -> set[int]:
        """Replace the sums and credits of a period; correct those of lists and experiments.

        Returns the buckets that are owed another count: those behind it with credits that depend on
        one that has changed, and what was owed before. They are kept in the same transaction.
        """
        c, o = credits.c, outcomes.c
        erased = self._erased(counted)
        visitors = set(pc.unique(counted.credits["user_id"]).to_pylist())
        buckets = [
            (BUCKET_MS, *row[: len(DIMENSIONS) + 2 + len(SUMS)], _packed(row[-1]))
            for row in zip(*(column.to_pylist() for column in counted.sums.columns), strict=True)
        ]
        with self._engine.begin() as db:
            of_period = c.at_ms >= period.since, c.at_ms < period.until
            behind = select(c.event_id).where(c.at_ms >= period.until).limit(1)
            # While a bucket is open nothing depends on it, and its credits need not be compared.
            before = None
            if db.scalar(behind) is not None:
                before = {tuple(row) for row in db.execute(select(credits).where(*of_period))}
            visitors.update(db.scalars(select(c.user_id).where(*of_period).distinct()))
            touched = slates_of(db, period) | _slates(counted.credits)
            then = credits_of(db, touched)
            of_lists = list_sums.lists_of(db, period) | _lists(counted.credits)
            followed = list_sums.followed(db, of_lists)
            db.execute(delete(credits).where(*of_period))
            changed = before or set()
            for rows in _portions(counted.credits, erased):
                insert_rows(db, credits, rows, new=True)
                if before is not None:
                    changed ^= set(rows)
            rows = counted.participants.to_pylist()
            new = [row for row in rows if row["first_at"] > erased.get(row["user_id"], -1)]
            record_sums(db, period, new, visitors, then, credits_of(db, touched))
            keep_summed(db, period, counted.summed)
            rows, now = counted.lists.to_pylist(), list_sums.followed(db, of_lists)
            list_sums.record_lists(db, period, rows, followed, now)
            mine = o.start >= period.since, o.start < period.until
            db.execute(delete(outcomes).where(o.length_ms == BUCKET_MS, *mine))
            insert_rows(db, outcomes, buckets)
            for length, part in ((HOUR_MS, BUCKET_MS), (DAY_MS, HOUR_MS)):
                for start in range(period.since - period.since % length, period.until, length):
                    _sum_again(db, length, start, part)
            owed = set(_kept(db, _OWED) or ()) - set(range(*period, BUCKET_MS))
            owed |= _dependent(db, changed, period.until)
            _keep(db, _OWED, sorted(owed))
            return owed

    def _erased(self, counted: Counted) -> dict[str, int]:
        """The time (ms) up to which rows are left out, of the visitors who are marked."""
        users = [
            pc.unique(each["user_id"]).to_pylist()
            for each in (counted.credits, counted.participants)
        ]
        digests = {visitor_digest(each): each for each in chain(*users)}
        marks = self._marks_of(digests.keys())
        return {digests[digest]: mark.asked_at for digest, mark in marks.items()}

    def rows(self, since: int, until: int) -> Iterator[OutcomeRow]:
        """The sums of a period (ms), by the largest lengths that lie within it and are kept."""
        o = outcomes.c
        for length, begin, end in tiles(since, until):
            of_part = o.length_ms == length, o.start >= begin, o.start < end
            with self._engine.connect() as db:
                rows = db.execute(select(outcomes).where(*of_part)).all()
            yield from map(_outcome_row, rows)

    def counts(self, since: int, until: int) -> dict[Bucket, Counts]:
        """Lists, and what followed from them, of the buckets in `since <= start < until` (ms)."""
        return list_sums.counts(self._engine, since, until)

    def clicked(self, since: int, until: int) -> Iterator[Sequence[str]]:
        """Ids of lists outside experiments with a click in a time (ms), some at a time."""
        c = credits.c
        query = select(c.recommendation_id).where(
            c.kind == "click",
            c.recommendation_id != "",
            c.experiment == "",
            *(c.at_ms >= since, c.at_ms < until),
        )
        with self._engine.connect() as db:
            found = db.execution_options(yield_per=_IDS_AT_ONCE).scalars(query)
            yield from found.partitions()

    def rows_of(self, visitor_ids: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """All rows of these visitors, each with its kind: `experiment`, `credit` or `identity`."""
        with self._engine.connect() as db:
            sums = list(rows_of_visitors(db, visitor_ids))
        yield from (("experiment", row) for row in sums)
        i = identities.c
        for some in chunks(visitor_ids):
            for kind, query in (
                ("credit", select(credits).where(credits.c.user_id.in_(some))),
                (
                    "identity",
                    select(identities).where(i.visitor.in_(some) | i.person.in_(some)),
                ),
            ):
                with self._engine.connect() as db:
                    rows = db.execute(query.order_by(query.selected_columns[0])).all()
                for row in rows:
                    yield kind, dict(row._mapping)

    def expire(self, now_ms: int, credit_ms: int, retention_ms: int) -> None:
        """Delete sums and credits that are past their retention."""
        o = outcomes.c
        with self._engine.begin() as db:
            db.execute(delete(credits).where(credits.c.at_ms < now_ms - credit_ms - NAMED_MS))
            for length, kept_ms in {**_KEPT_MS, DAY_MS: retention_ms}.items():
                old = o.length_ms == length, o.start < now_ms - kept_ms
                db.execute(delete(outcomes).where(*old))
            list_sums.expire_lists(db, now_ms - retention_ms)
            expire_sums(db, now_ms - retention_ms, now_ms - _KEPT_MS[BUCKET_MS])


def tiles(
    since: int, until: int, lengths: Sequence[int] = (DAY_MS, HOUR_MS, BUCKET_MS)
) -> Iterator[tuple[int, int, int]]:
    """The parts of a period (ms), each with the length of its sums: the longest that fit."""
    if since >= until:
        return
    length, *shorter = lengths
    begin, end = -(-since // length) * length, until - until % length
    if not shorter:
        yield length, since - since % length, until
    elif begin < end:
        yield from tiles(since, begin, shorter)
        yield length, begin, end
        yield from tiles(end, until, shorter)
    else:
        yield from tiles(since, until, shorter)


def kept_since(since: int, now_ms: int) -> int:
    """The latest time before `since` from which on sums are kept in parts that begin with it."""
    length = next(
        (length for length, kept in _KEPT_MS.items() if since > now_ms - kept + DAY_MS), DAY_MS
    )
    return since - since % length


def _packed(hashes: Iterable[int]) -> bytes:
    return np.array(sorted(hashes)[:FEWEST_VISITORS], "<u4").tobytes()


def _outcome_row(row: Any) -> OutcomeRow:
    edge = 2 + len(DIMENSIONS)
    hashes = np.frombuffer(row.visitors, "<u4").tolist()
    return OutcomeRow(tuple(row[2:edge]), row[edge], tuple(row[edge + 1 : -1]), frozenset(hashes))


def _sum_again(db: Connection, length: int, start: int, part: int) -> None:
    """Sum an hour or a day again from its parts."""
    o = outcomes.c
    sums: dict[tuple[Any, ...], list[int]] = {}
    visitors: dict[tuple[Any, ...], set[int]] = {}
    parts = select(outcomes).where(o.length_ms == part, o.start >= start, o.start < start + length)
    for row in map(_outcome_row, db.execute(parts)):
        key = (*row.group, row.currency)
        before = sums.get(key)
        sums[key] = list(map(int.__add__, before, row.sums)) if before else list(row.sums)
        visitors.setdefault(key, set()).update(row.visitors)
    db.execute(delete(outcomes).where(o.length_ms == length, o.start == start))
    rows = [(length, start, *key, *each, _packed(visitors[key])) for key, each in sums.items()]
    insert_rows(db, outcomes, rows)


def _kept(db: Connection, name: str) -> Any:
    body = db.scalar(select(progress.c.body).where(progress.c.name == name))
    return None if body is None else orjson.loads(body)


def _keep(db: Connection, name: str, value: Any) -> None:
    body = orjson.dumps(value).decode()
    upsert(db, progress, [{"name": name, "body": body}], replacing)


def _portions(found: pa.Table, erased: Mapping[str, int]) -> Iterator[list[tuple[Any, ...]]]:
    """Rows of credits, some at a time, without those of the erased."""
    for batch in found.to_batches(max_chunksize=_ROWS_AT_ONCE):
        rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
        yield [row for row in rows if row[4] > erased.get(row[2], -1)]


def _lists(found: pa.Table) -> set[str]:
    """The lists in these credits."""
    return set(pc.unique(found["recommendation_id"]).to_pylist()) - {""}


def _slates(found: pa.Table) -> set[str]:
    """The slates of experiments in these credits."""
    of_experiments = pc.not_equal(found["experiment"], "")
    return set(pc.unique(found["recommendation_id"].filter(of_experiments)).to_pylist())


def _dependent(db: Connection, changed: Iterable[tuple[Any, ...]], since: int) -> set[int]:
    """The buckets from a time on with credits of the visitors and items of changed ones."""
    c, items = credits.c, dict[str, set[str]]()
    for row in changed:
        items.setdefault(row[2], set()).add(row[3])
    for visitor, same in _aliases(db, items).items():
        items[visitor] = set().union(*(items.get(each, ()) for each in same))
    pairs = sorted((visitor, item) for visitor, of in items.items() for item in of)
    some = (pairs[begin : begin + _PAIRS_AT_ONCE] for begin in range(0, len(pairs), _PAIRS_AT_ONCE))
    return {
        at - at % BUCKET_MS
        for each in some
        for at in db.scalars(select(c.at_ms).where(_of_pairs(each), c.at_ms >= since))
    }


def _pairs(db: Connection, key: Column[str], ids: Collection[str]) -> dict[str, str]:
    """The user that each visitor became, of those with one of these ids."""
    query = select(identities.c.visitor, identities.c.person)
    return {
        visitor: person
        for some in chunks(ids)
        for visitor, person in db.execute(query.where(key.in_(some)))
    }


def _aliases(db: Connection, visitors: Collection[str]) -> dict[str, set[str]]:
    """All ids of each of these visitors who became a user, and of those who became the same."""
    persons = {*visitors, *_pairs(db, identities.c.visitor, visitors).values()}
    same: dict[str, set[str]] = {}
    for visitor, person in _pairs(db, identities.c.person, persons).items():
        same.setdefault(person, {person}).add(visitor)
    return {each: ids for ids in same.values() for each in ids}


def _of_pairs(pairs: Iterable[tuple[str, str]]) -> ColumnElement[bool]:
    """The condition for the credits of visitors' items."""
    return tuple_(credits.c.user_id, credits.c.item_id).in_(list(pairs))


def _paid_buckets(db: Connection, visitors: Collection[str]) -> set[int]:
    """The buckets with purchases and refunds of these visitors."""
    c, found = credits.c, set[int]()
    for some in chunks(visitors):
        query = select(c.at_ms).where(c.user_id.in_(some), c.kind.in_(("purchase", "refund")))
        found.update(at - at % BUCKET_MS for at in db.scalars(query))
    return found
