"""The SQL of answers' sums: each answer is added once, however often its record is read."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Engine, delete, func, select

from services.monitoring.answers import Answer, AnswerKey, AnswerSums, Latencies
from services.monitoring.quality import BUCKET_MS, Bucket, Counts
from services.monitoring.slate_tables import added, answers
from slipstream.stores.metadata import insert_new, keeping_greater, replacing, upsert

_STARTS_AT_ONCE: Final = 1_000
_SUMS: Final = (answers.c.timed, answers.c.total_ms, answers.c.squares, answers.c.bins)


def add_answers(db: Connection, arrived: Iterable[Answer]) -> None:
    """Add answers to the sums, and keep the offset up to which each source is added.

    Those behind it alone are added, so in one transaction with them a repetition changes nothing.
    """
    newest: dict[str, int] = {}
    arrived = list(arrived)
    for each in arrived:
        newest[each.source] = max(each.offset, newest.get(each.source, -1))
    if not arrived:
        return
    insert_new(db, added, [{"source": source, "last_offset": -1} for source in newest])
    # Another instance that is about to end may add, too: it waits, and then finds them added.
    known = select(added).where(added.c.source.in_(newest)).with_for_update()
    last = {row.source: row.last_offset for row in db.execute(known)}
    sums: dict[AnswerKey, AnswerSums] = {}
    for each in arrived:
        if each.offset > last[each.source]:
            sums.setdefault(each.key, AnswerSums()).add(each)
    for key, stored in _of_starts(db, sorted({key.start for key in sums})):
        if key in sums:
            sums[key].merge(stored)
    upsert(db, answers, [_row(key, each) for key, each in sums.items()], replacing)
    ends = [{"source": source, "last_offset": end} for source, end in newest.items()]
    upsert(db, added, ends, keeping_greater)


def _of_starts(db: Connection, starts: Sequence[int]) -> Iterator[tuple[AnswerKey, AnswerSums]]:
    for begin in range(0, len(starts), _STARTS_AT_ONCE):
        some = answers.c.start.in_(starts[begin : begin + _STARTS_AT_ONCE])
        for row in db.execute(select(answers).where(some)):
            slates, shown, items, *measured = row[6:]
            its = Latencies.unpacked(*measured)
            yield AnswerKey(*row[:6]), AnswerSums(slates, shown, items, its)


def _row(key: AnswerKey, sums: AnswerSums) -> dict[str, Any]:
    its = sums.latencies
    measured = its.count, its.total, its.squares, its.packed()
    values = (*key, sums.slates, sums.shown, sums.items, *measured)
    return dict(zip(answers.columns.keys(), values, strict=True))


def answered(engine: Engine, since: int, until: int) -> dict[Bucket, Counts]:
    """The lists answered in `since <= start < until`, by bucket, version and step; no clicks."""
    a = answers.c
    bucket = (a.start - a.start % BUCKET_MS).label("bucket")
    sums = (func.sum(column) for column in (a.slates, a.shown, a["items"]))
    query = (
        select(bucket, a.model_version, a.answered_by, *sums)
        .where(a.start >= since, a.start < until)
        .group_by("bucket", a.model_version, a.answered_by)
    )
    with engine.connect() as db:
        return {Bucket(*row[:3]): Counts(*map(int, row[3:])) for row in db.execute(query)}


def latencies(engine: Engine, since: int) -> Latencies:
    """The latencies of all answers since a time (ms)."""
    with engine.connect() as db:
        return merged(db.execute(select(*_SUMS).where(answers.c.start >= since)))


def merged(rows: Iterable[Any]) -> Latencies:
    """The latencies of these rows, each with number, sum, sum of squares and bins."""
    counts, totals, squares, packed = [*zip(*rows, strict=True)] or [()] * 4
    return Latencies.unpacked(sum(counts), sum(totals), sum(squares), b"".join(packed))


def expire_answers(db: Connection, before: int) -> None:
    """Delete the sums from before a time (ms)."""
    db.execute(delete(answers).where(answers.c.start < before))
