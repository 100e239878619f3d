"""The SQL of experiments' sums by visitor: kept exact while periods are counted again.

Slates are added once each, by their offsets. Of responses the difference is added that a count has
made to the credits, in the transaction that replaces them. The past of a visitor is found again
where a count may have changed it. All of this can be done for some rows at a time.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import pyarrow as pa
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    bindparam,
    case,
    column,
    delete,
    exists,
    or_,
    select,
    table,
    update,
)

from services.monitoring.counting.credit import Period
from services.monitoring.counting.tables import (
    counted_slates,
    credits,
    experiment_currencies,
    identities,
    in_experiment,
    visitor_sums,
)
from services.monitoring.counting.visitor_sums import (
    Credit,
    DesignStart,
    Response,
    VisitorKey,
    credit,
    currencies,
    design_starts,
)
from slipstream.contracts.experiments import Experiment, ExperimentDesign
from slipstream.stores.metadata import adding, chunks, insert_rows, keeping_greater, upsert

_KEY: Final = tuple(visitor_sums.primary_key.columns.keys())
_AT_KEY: Final = [visitor_sums.c[name] == bindparam(f"at_{name}") for name in _KEY]
_BEFORE: Final = ("before_clicked", "before_converted")
_ANSWERS: Final = ("slates", "empty", "failed", "timed", "latency")
# Of a visitor's first slates.
_NOTHING: Final = {**dict.fromkeys((*Credit._fields, *_BEFORE), 0), "linked": None}
# The control plane's tables, which it alone writes.
_newest = table(
    "monitoring_experiments", *map(column, ("name", "revision", "design", "deleted", "changed_at"))
)
_revisions = table(
    "monitoring_experiment_revisions",
    *map(column, ("name", "revision", "design", "deleted", "changed_at")),
)

Followed = Mapping[str, list[Response]]


def starts_of(db: Connection, experiment: str) -> list[DesignStart]:
    """The revisions of an experiment that slates are counted by, oldest first."""
    return design_starts(_experiments(db, _revisions, experiment))


def all_starts(db: Connection) -> list[tuple[str, int, int]]:
    """Name, time (ms) and revision of all that slates are counted by, of every experiment.

    A slate from before the first one of its experiment counts for that.
    """
    revisions: dict[str, list[Experiment]] = {}
    for each in _experiments(db, _revisions):
        revisions.setdefault(each.name, []).append(each)
    return [
        (name, start.since if place else 0, start.revision)
        for name, of_name in revisions.items()
        for place, start in enumerate(design_starts(of_name))
    ]


def _experiments(db: Connection, kept: Any, name: str | None = None) -> Iterator[Experiment]:
    """The states in a table of experiments; those that can't be read are left out."""
    c = kept.c
    query = select(c.name, c.revision, c.design, c.deleted, c.changed_at)
    for row in db.execute(query if name is None else query.where(c.name == name)):
        try:
            yield Experiment(
                name=row.name,
                revision=row.revision,
                design=ExperimentDesign.model_validate_json(row.design),
                deleted=bool(row.deleted),
                changed_at=row.changed_at,
            )
        except ValueError:
            continue


def slates_of(period: Period) -> Select[tuple[str]]:
    """The query for slates of experiments that responses of a period are credited to."""
    c = credits.c
    of_period = c.at_ms >= period.since, c.at_ms < period.until, in_experiment
    return select(c.recommendation_id).where(*of_period).distinct()


def credits_of(db: Connection, slate_ids: Iterable[str]) -> Followed:
    """All responses that are credited to these slates of experiments, by slate."""
    c, found = credits.c, dict[str, list[Response]]()
    columns = select(*(c[name] for name in Response._fields))
    for some in chunks(slate_ids):
        for row in db.execute(columns.where(c.recommendation_id.in_(some), in_experiment)):
            found.setdefault(row[0], []).append(Response(*row))
    return found


def record_slates(db: Connection, participants: Iterable[Mapping[str, Any]]) -> None:
    """Add the sums of slates that were not summed before."""
    added = [{**_NOTHING, **row} for row in participants]
    upsert(db, visitor_sums, added, _merged)
    mark_linked(db, {row["user_id"] for row in added})


def record_responses(db: Connection, then: Followed, now: Followed) -> None:
    """Add what a count has changed of the credit of some slates. Expired sums are not made again.

    Args:
        db: The connection, in the transaction of the count.
        then: All responses to the slates before the count.
        now: The same after it.
    """
    named = {row[0].experiment for row in (*then.values(), *now.values()) if row}
    starts = {(name, it.revision) for name in named for it in starts_of(db, name)}
    changes: dict[VisitorKey, Counter[str]] = {}
    paid = Counter[tuple[str, int, str]]()
    for followed, sign in ((then, -1), (now, 1)):
        for responses in followed.values():
            # Responses count for no design while it settles.
            counted = (it for it in responses if (it.experiment, it.revision) in starts)
            if (response := next(counted, None)) is None:
                continue
            key = response.key()
            change = changes.setdefault(key, Counter())
            for name, amount in credit(responses)._asdict().items():
                change[name] += sign * amount
            for currency, count in currencies(responses).items():
                paid[key.experiment, key.revision, currency] += sign * count
    rows = [
        {**_at(key), **{f"by_{name}": change[name] for name in Credit._fields}}
        for key, change in changes.items()
        if any(change.values())
    ]
    if rows:
        c = visitor_sums.c
        added = {name: c[name] + bindparam(f"by_{name}") for name in Credit._fields}
        db.execute(update(visitor_sums).where(*_AT_KEY).values(added), rows)
    names = ("experiment", "revision", "currency", "purchases")
    counts = [dict(zip(names, (*of, n), strict=True)) for of, n in sorted(paid.items()) if n]
    upsert(db, experiment_currencies, counts, adding)


def mark_linked(db: Connection, user_ids: Collection[str]) -> None:
    """Mark the sums of these ids that became a user or are one: such a user may have more ids."""
    v, i = visitor_sums.c, identities.c
    # By their indexes for each id, whatever the number of links.
    is_linked = or_(*(exists().where(name == v.user_id) for name in (i.visitor, i.person)))
    for some in chunks(user_ids):
        of_some = v.user_id.in_(some), v.linked.is_(None), is_linked
        db.execute(update(visitor_sums).where(*of_some).values(linked=True))


def _merged(stored: Column[Any], given: ColumnElement[Any]) -> ColumnElement[Any]:
    if stored.name == "first_at":
        return case((given < stored, given), else_=stored)
    if stored.name == "last_at":
        return keeping_greater(stored, given)
    return adding(stored, given) if stored.name in _ANSWERS else stored


def _at(key: VisitorKey) -> dict[str, Any]:
    return {f"at_{name}": part for name, part in key._asdict().items()}


def renew(db: Connection, period: Period, visitors: Collection[str]) -> None:
    """Count again what visitors did before their first slate in an experiment.

    They are those with credits of the period, before the count or after it, and with new slates.
    Responses to another experiment's slates count, those to the own one's of an earlier design do
    not: they may be that design's effect. What came before the period changes no later past.
    """
    v, c = visitor_sums.c, credits.c
    if db.scalar(select(v.experiment).limit(1)) is None:
        return
    began = select(*(v[name] for name in (*_KEY, "first_at"))).where(v.first_at >= period.since)
    past = select(c.user_id, c.at_ms, c.experiment, c.kind).where(c.kind != "refund")
    for some in chunks(visitors):
        rows = db.execute(began.where(v.user_id.in_(some))).all()
        if not rows:
            continue
        latest = max(row.first_at for row in rows)
        of_visitor: dict[str, list[Any]] = {}
        for each in db.execute(
            past.where(c.user_id.in_({row.user_id for row in rows}), c.at_ms < latest)
        ):
            of_visitor.setdefault(each.user_id, []).append(each)
        renewed = []
        for *key, first_at in rows:
            at = VisitorKey(*key)
            clicked = [
                each.kind == "click"
                for each in of_visitor.get(at.user_id, ())
                if each.at_ms < first_at and each.experiment != at.experiment
            ]
            counts = {"to_before_clicked": sum(clicked)}
            renewed.append(
                {**_at(at), **counts, "to_before_converted": len(clicked) - sum(clicked)}
            )
        values: dict[str, Any] = {name: bindparam(f"to_{name}") for name in _BEFORE}
        db.execute(update(visitor_sums).where(*_AT_KEY).values(values), renewed)


def summed(db: Connection, period: Period) -> list[tuple[int, str, int, int]]:
    """Bucket, topic, partition and last offset of a period's slates that are in the sums."""
    query = select(counted_slates).where(*_of_period(period))
    return [tuple(row) for row in db.execute(query)]


def keep_summed(db: Connection, period: Period, now: pa.Table) -> None:
    """Keep how far a period's slates are in the sums."""
    db.execute(delete(counted_slates).where(*_of_period(period)))
    insert_rows(db, counted_slates, list(zip(*(it.to_pylist() for it in now.columns), strict=True)))


def _of_period(period: Period) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    start = counted_slates.c.start
    return start >= period.since, start < period.until


def rows_of_visitors(db: Connection, user_ids: Collection[str]) -> Iterator[dict[str, Any]]:
    """All sums of these visitors."""
    for some in chunks(user_ids):
        query = select(visitor_sums).where(visitor_sums.c.user_id.in_(some))
        for row in db.execute(query.order_by(*visitor_sums.primary_key.columns)):
            yield dict(row._mapping)


def expire_sums(db: Connection, before: int, slates_before: int) -> None:
    """Delete the sums of experiments that have ended, or were stopped or deleted, before a time.

    How far slates are summed is kept for those since another time.
    """
    ended = [
        it.name
        for it in _experiments(db, _newest)
        if (it.deleted or it.design.state == "stopped" or (it.design.ends_at or before) < before)
        and it.changed_at < before
    ]
    for some in chunks(ended):
        for each in (visitor_sums, experiment_currencies):
            db.execute(delete(each).where(each.c.experiment.in_(some)))
    db.execute(delete(counted_slates).where(counted_slates.c.start < slates_before))
