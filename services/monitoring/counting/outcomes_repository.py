"""The SQL of outcomes: sums by bucket, hour and day, credits of a month, and who became a user.

A period is replaced whole, in one transaction, so that counting it again changes nothing. Hours and
days are summed again from the lengths below them.
"""

import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Select,
    delete,
    func,
    select,
    tuple_,
)

from services.monitoring.counting import list_sums_repository as list_sums
from services.monitoring.counting.credit import (
    BUCKET_MS,
    CREDITS,
    DIMENSIONS,
    FEWEST_VISITORS,
    NAMED_MS,
    SUMS,
    Period,
    PeriodCount,
    table_of,
)
from services.monitoring.counting.tables import (
    credits,
    identities,
    outcomes,
    progress,
)
from services.monitoring.counting.visitor_sums import Response
from services.monitoring.counting.visitor_sums_repository import (
    all_starts,
    credits_of,
    expire_sums,
    keep_summed,
    mark_linked,
    record_responses,
    record_slates,
    renew,
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

    def past(self, users: pa.RecordBatch, since: int, until: int) -> list[pa.RecordBatch]:
        """The credits (`CREDITS`) of a time (ms) of some users, or of some users' items.

        Args:
            users: Rows of `user_id`, or of `user_id` and `item_id`.
        """
        c, found = credits.c, list[pa.RecordBatch]()
        of_time = select(credits).where(c.at_ms >= since, c.at_ms < until)
        with self._engine.connect() as db:
            for begin in range(0, users.num_rows, _PAIRS_AT_ONCE):
                some = _rows(users.slice(begin, _PAIRS_AT_ONCE))
                is_pair = len(some[0]) > 1
                query = of_time.where(
                    _of_pairs(some) if is_pair else c.user_id.in_([*chain(*some)])
                )
                for rows in _portions(db, query):
                    found += table_of(CREDITS, rows).to_batches()
        return found

    def replace(self, period: Period, count: PeriodCount) -> set[int]:
        """Replace the sums and credits of a period; correct those of lists and experiments.

        Returns the buckets that are owed another count: those behind it with credits that depend on
        one that has changed, and what was owed before. They are kept in the same transaction.
        """
        c, o = credits.c, outcomes.c
        self._mark_erased(count)
        sums = count.table("sums")
        buckets = [
            (BUCKET_MS, *row[: len(DIMENSIONS) + 2 + len(SUMS)], _packed(row[-1]))
            for each in sums.to_batches()
            for row in _rows(each)
        ]
        with self._engine.begin() as db:
            of_period = c.at_ms >= period.since, c.at_ms < period.until
            for rows in _portions(db, select(c.user_id).where(*of_period).distinct()):
                count.add_rows("renewed", rows)
            behind = select(c.event_id).where(c.at_ms >= period.until).limit(1)
            # While a bucket is open nothing depends on it, and its credits need not be compared.
            is_open = db.scalar(behind) is None
            if not is_open:
                for rows in _portions(db, select(credits).where(*of_period)):
                    count.add_rows("credits_before", rows)
            for slates in _portions(db, slates_of(period)):
                count.add_rows("responded", slates)
            for each in count.batches("affected", _ROWS_AT_ONCE):
                then = credits_of(db, each["recommendation_id"].to_pylist())
                count.add_rows("responses_before", chain.from_iterable(then.values()))
            for lists in _portions(db, list_sums.lists_of(period)):
                count.add_rows("credited", lists)
            changes: list_sums.Changes = {}
            _follow(db, count, changes, -1)
            db.execute(delete(credits).where(*of_period))
            for each in count.batches("new_credits", _ROWS_AT_ONCE):
                insert_rows(db, credits, _rows(each), new=True)
            for each in count.batches("new_participants", _ROWS_AT_ONCE):
                record_slates(db, each.to_pylist())
            for then in _by_slate(count):
                record_responses(db, then, credits_of(db, then))
            for each in count.batches("to_renew"):
                renew(db, period, each["user_id"].to_pylist())
            keep_summed(db, period, count.table("summed_now"))
            _follow(db, count, changes, 1)
            list_sums.record_lists(db, period, count.table("lists").to_pylist(), changes)
            mine = o.start >= period.since, o.start < period.until
            db.execute(delete(outcomes).where(o.length_ms == BUCKET_MS, *mine))
            insert_rows(db, outcomes, buckets)
            for length, part in ((HOUR_MS, BUCKET_MS), (DAY_MS, HOUR_MS)):
                for start in range(period.since - period.since % length, period.until, length):
                    _sum_again(db, length, start, part)
            owed = set(_kept(db, _OWED) or ()) - set(range(*period, BUCKET_MS))
            if not is_open:
                for each in count.batches("changed"):
                    owed |= _dependent(db, _rows(each), period.until)
            _keep(db, _OWED, sorted(owed))
            return owed

    def _mark_erased(self, count: PeriodCount) -> None:
        """Add the time (ms) up to which rows are left out, of the users who are marked."""
        for some in count.batches("users"):
            digests = {visitor_digest(each): each for each in some["user_id"].to_pylist()}
            marks = self._marks_of(digests.keys())
            count.add_rows(
                "erased", [(digests[digest], mark.asked_at) for digest, mark in marks.items()]
            )

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


def _rows(batch: pa.RecordBatch) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in batch.columns), strict=True))


def _follow(db: Connection, count: PeriodCount, changes: list_sums.Changes, sign: int) -> None:
    """Add what followed from the lists that a count affects, or take it off."""
    for each in count.batches("affected_lists"):
        list_sums.follow(db, each["recommendation_id"].to_pylist(), changes, sign)


def _by_slate(count: PeriodCount) -> Iterator[dict[str, list[Response]]]:
    """The responses, before a count, to the slates of experiments that it affects."""
    rows = (row for each in count.batches("followed", _ROWS_AT_ONCE) for row in _rows(each))
    groups = groupby(rows, itemgetter(0))
    while some := {
        slate: [Response(*row) for row in group if row[1] is not None]
        for slate, group in islice(groups, _ROWS_AT_ONCE)
    }:
        yield some


def _portions(db: Connection, query: Select[Any]) -> Iterator[Sequence[Any]]:
    """The rows of a query, some at a time: many may be found."""
    yield from db.execute(query.execution_options(yield_per=_ROWS_AT_ONCE)).partitions()


def _dependent(db: Connection, changed: Iterable[tuple[str, str]], since: int) -> set[int]:
    """The buckets from a time on with credits of these visitors' items, whoever they became."""
    c, items = credits.c, dict[str, set[str]]()
    for visitor, item in changed:
        items.setdefault(visitor, set()).add(item)
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
