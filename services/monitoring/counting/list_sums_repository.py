"""The SQL of lists by the five minutes in which they were answered, with what was clicked of them.

Lists of a period are replaced. Of clicks and conversions the difference is added that a count has
made to the credits, in the transaction that replaces them: a list counts in its own five minutes,
whenever it is clicked.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Select,
    case,
    delete,
    func,
    select,
    update,
)

from services.monitoring.counting.credit import BUCKET_MS, Period
from services.monitoring.counting.tables import credits, lists
from services.monitoring.quality import Bucket, Counts
from slipstream.stores.metadata import adding, chunks, replacing, upsert

_ANSWERED: Final = ("slates", "shown", "items")

# Changes of the counts of clicks and conversions.
Changes = dict[Bucket, Counts]


def lists_of(period: Period) -> Select[tuple[str]]:
    """The query for lists that responses of a period are credited to."""
    c = credits.c
    of_period = c.at_ms >= period.since, c.at_ms < period.until, c.recommendation_id != ""
    return select(c.recommendation_id).where(*of_period).distinct()


def follow(db: Connection, list_ids: Collection[str], changes: Changes, sign: int) -> None:
    """Add `sign` times what followed from these lists. Each item of a list counts once."""
    c = credits.c
    kinds = c.kind == "click", c.kind.in_(("cart", "purchase"))
    items = (func.count(case((kind, c.item_id)).distinct()) for kind in kinds)
    of_list = c.recommendation_id, c.listed_at, c.list_model, c.answered_by
    query = select(*of_list, *items).group_by(*of_list)
    for some in chunks(list_ids):
        for _, at, *step, clicked, converted in db.execute(
            query.where(c.recommendation_id.in_(some))
        ):
            counts = Counts(
                clicked_slates=clicked > 0,
                clicked_items=clicked,
                converted_slates=converted > 0,
                converted_items=converted,
            )
            changes.setdefault(Bucket(at - at % BUCKET_MS, *step), Counts()).add(counts, sign)


def record_lists(
    db: Connection, period: Period, answered: Iterable[Mapping[str, Any]], changes: Changes
) -> None:
    """Replace the lists of a period, and add the change of what followed from any.

    Args:
        db: The connection, in the transaction of the count.
        answered: Lists of it by bucket, model version and step.
        changes: What followed from lists after the count, less what did before it.
    """
    of_period = lists.c.start >= period.since, lists.c.start < period.until
    db.execute(update(lists).where(*of_period).values(dict.fromkeys(_ANSWERED, 0)))
    upsert(db, lists, [asdict(Counts()) | dict(row) for row in answered], _replaced)
    rows = [bucket._asdict() | asdict(change) for bucket, change in changes.items()]
    upsert(db, lists, [row for row in rows if any(map(row.get, _FOLLOWED))], adding)


_FOLLOWED: Final = tuple(name for name in Counts.__slots__ if name not in _ANSWERED)


def _replaced(stored: Column[Any], given: ColumnElement[Any]) -> ColumnElement[Any]:
    return replacing(stored, given) if stored.name in _ANSWERED else stored


def counts(engine: Engine, since: int, until: int) -> dict[Bucket, Counts]:
    """Counts of the buckets that start in `since <= start < until`."""
    query = select(lists).where(lists.c.start >= since, lists.c.start < until)
    with engine.connect() as db:
        return {Bucket(*row[:3]): Counts(*row[3:]) for row in db.execute(query)}


def expire_lists(db: Connection, before: int) -> None:
    """Delete the counts of buckets from before a time (ms)."""
    db.execute(delete(lists).where(lists.c.start < before))
