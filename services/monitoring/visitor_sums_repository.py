"""The SQL of experiments' sums by visitor: kept exact while slates and responses arrive.

A batch adds the difference that it makes, in its own transaction. What a visitor did before the
experiment, and the vote, are summed again from the slates that are still kept, where the batch
may have changed them.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Final

import orjson
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    column,
    delete,
    select,
    table,
    update,
)

from services.monitoring.attribution import ShownSlate
from services.monitoring.slate_tables import (
    experiment_currencies,
    responses,
    slates,
    visitor_sums,
)
from services.monitoring.visitor_sums import (
    ClickedSlate,
    Credit,
    DesignStart,
    PaidResponse,
    VisitorKey,
    Vote,
    credit,
    currencies,
    design_starts,
    key_of,
    slate_sums,
    start_at,
    vote,
)
from slipstream.contracts.experiments import Experiment, ExperimentDesign
from slipstream.stores.metadata import adding, keeping_greater, upsert

_IDS_AT_ONCE: Final = 1_000
_KEY: Final = tuple(visitor_sums.primary_key.columns.keys())
_AT_KEY: Final = [visitor_sums.c[name] == bindparam(f"at_{name}") for name in _KEY]
_SUMS: Final = (
    *("slates", "empty", "failed", "clicked_slates", "clicked_items", "converted_slates"),
    *("purchases", "revenue", "timed", "latency"),
)
# Summed again, never added to.
_RENEWED: Final = {
    **dict.fromkeys(("before_slates", "before_clicked", "before_converted"), 0),
    **Vote()._asdict(),
}
# The control plane's tables, which it alone writes.
_newest = table(
    "monitoring_experiments", *map(column, ("name", "revision", "design", "deleted", "changed_at"))
)
_revisions = table(
    "monitoring_experiment_revisions",
    *map(column, ("name", "revision", "design", "deleted", "changed_at")),
)

Following = Mapping[str, list[PaidResponse]]


def chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    """The ids in lists that one statement can bind."""
    ordered = sorted(ids)
    return (ordered[begin : begin + _IDS_AT_ONCE] for begin in range(0, len(ordered), _IDS_AT_ONCE))


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


class VisitorSums:
    """The writer of experiments' sums. One thread at a time uses it."""

    def __init__(self) -> None:
        # Revisions only grow, and designs are parsed once.
        self._known: dict[str, tuple[int, list[DesignStart]]] = {}

    def following(self, db: Connection, shown: Iterable[ShownSlate]) -> Following:
        """The responses that are attributed now to the slates of experiments, by slate."""
        ids = {slate.recommendation_id for slate in shown if slate.experiment}
        r, found = responses.c, defaultdict[str, list[PaidResponse]](list)
        columns = select(r.attributed, r.item_id, r.converted, r.purchased, r.value, r.currency)
        for some in chunks(ids):
            for slate_id, item_id, converted, *paid in db.execute(
                columns.where(r.attributed.in_(some))
            ):
                purchased, value, currency = paid
                found[slate_id].append(
                    PaidResponse(item_id, converted, bool(purchased), value, currency or "")
                )
        return found

    def record(
        self,
        db: Connection,
        new: Collection[ShownSlate],
        touched: Collection[ShownSlate],
        before: Following,
    ) -> None:
        """Add what a batch has changed, after its slates and responses are stored.

        Args:
            db: The connection, in the batch's transaction.
            new: Slates that were not stored before.
            touched: Slates that gained or lost a response, new ones too.
            before: The responses of the touched slates before the batch.
        """
        names = {slate.experiment for slate in (*new, *touched) if slate.experiment}
        starts = {name: self._starts(db, name) for name in names}
        keys = {
            slate.recommendation_id: key
            for slate in (*new, *touched)
            if slate.experiment and (key := key_of(slate, starts)) is not None
        }
        self._add_slates(db, new, keys)
        self._add_responses(db, touched, keys, before)
        rows = _rows(db, {slate.user_id for slate in (*new, *touched)})
        if rows:
            _renew_past(db, rows, new, touched, keys)
            _renew_votes(db, rows, touched, keys, starts)

    def _starts(self, db: Connection, name: str) -> list[DesignStart]:
        revision = db.scalar(select(_newest.c.revision).where(_newest.c.name == name)) or 0
        known = self._known.get(name)
        if known is None or known[0] != revision:
            known = self._known[name] = revision, starts_of(db, name)
        return known[1]

    def _add_slates(
        self,
        db: Connection,
        new: Iterable[ShownSlate],
        keys: Mapping[str, VisitorKey],
    ) -> None:
        rows: dict[VisitorKey, dict[str, Any]] = {}
        nothing = {**dict.fromkeys(_SUMS, 0), **_RENEWED}
        for slate in new:
            key = keys.get(slate.recommendation_id)
            if key is None:
                continue
            at = slate.timestamp
            row = rows.setdefault(key, {**key._asdict(), "first_at": at, "last_at": at, **nothing})
            row["first_at"], row["last_at"] = min(row["first_at"], at), max(row["last_at"], at)
            for name, amount in slate_sums(slate).items():
                row[name] += amount
        upsert(db, visitor_sums, list(rows.values()), _merged)

    def _add_responses(
        self,
        db: Connection,
        touched: Iterable[ShownSlate],
        keys: Mapping[str, VisitorKey],
        before: Following,
    ) -> None:
        """Add the change of credit. Sums that have expired are not made again."""
        counted = [slate for slate in touched if slate.recommendation_id in keys]
        after = self.following(db, counted)
        changes: dict[VisitorKey, Counter[str]] = {}
        paid: dict[tuple[str, int, str], int] = {}
        for slate in counted:
            key = keys[slate.recommendation_id]
            then, now = (each.get(slate.recommendation_id, []) for each in (before, after))
            change = changes.setdefault(key, Counter())
            for name, amount in credit(now).since(credit(then)).items():
                change[name] += amount
            differences = currencies(now)
            differences.subtract(currencies(then))
            for currency, count in differences.items():
                of = key.experiment, key.revision, currency
                paid[of] = paid.get(of, 0) + count
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
        # In one order: replicas lock these rows until they commit.
        counts = [dict(zip(names, (*of, n), strict=True)) for of, n in sorted(paid.items()) if n]
        upsert(db, experiment_currencies, counts, adding)


def _merged(stored: Column[Any], given: ColumnElement[Any]) -> ColumnElement[Any]:
    if stored.name == "first_at":
        return case((given < stored, given), else_=stored)
    if stored.name == "last_at":
        return keeping_greater(stored, given)
    return stored if stored.name in _RENEWED else adding(stored, given)


def _rows(db: Connection, user_ids: Collection[str]) -> dict[VisitorKey, Any]:
    """The visitors' sums, as far as what is renewed needs them."""
    v, found = visitor_sums.c, dict[VisitorKey, Any]()
    if db.scalar(select(v.experiment).limit(1)) is None:
        return found
    columns = select(*(v[name] for name in (*_KEY, "first_at", "vote", "voted_by")))
    for some in chunks(user_ids):
        for row in db.execute(columns.where(v.user_id.in_(some))):
            found[VisitorKey(*row[:4])] = row
    return found


def _update(db: Connection, names: Collection[str], rows: list[dict[str, Any]]) -> None:
    if rows:
        statement = update(visitor_sums).where(*_AT_KEY)
        db.execute(statement.values({name: bindparam(f"to_{name}") for name in names}), rows)


def _at(key: VisitorKey) -> dict[str, Any]:
    return {f"at_{name}": part for name, part in key._asdict().items()}


def _renew_past(
    db: Connection,
    rows: Mapping[VisitorKey, Any],
    new: Iterable[ShownSlate],
    touched: Iterable[ShownSlate],
    keys: Mapping[str, VisitorKey],
) -> None:
    """Sum again what visitors did before their first slate in an experiment.

    Another experiment's slates count, the own one's of an earlier design do not: they may be that
    design's effect.
    """
    first = {
        key
        for slate in new
        if (key := keys.get(slate.recommendation_id)) is not None
        and key in rows
        and rows[key].first_at == slate.timestamp
    }
    of_visitor: dict[str, list[VisitorKey]] = {}
    for key in rows:
        of_visitor.setdefault(key.user_id, []).append(key)
    stale = first | {
        key
        for slate in (*new, *touched)
        for key in of_visitor.get(slate.user_id, ())
        if slate.experiment != key.experiment and slate.timestamp < rows[key].first_at
    }
    if not stale:
        return
    s = slates.c
    until = max(rows[key].first_at for key in stale)
    columns = select(s.user_id, s.timestamp, s.experiment, s.clicked, s.converted)
    past: dict[str, list[Any]] = {}
    for some in chunks({key.user_id for key in stale}):
        for row in db.execute(columns.where(s.user_id.in_(some), s.timestamp < until)):
            past.setdefault(row.user_id, []).append(row)
    renewed = []
    for key in stale:
        own = [
            row
            for row in past.get(key.user_id, ())
            if row.timestamp < rows[key].first_at and row.experiment != key.experiment
        ]
        renewed.append(
            {
                **_at(key),
                "to_before_slates": len(own),
                "to_before_clicked": sum(row.clicked > 0 for row in own),
                "to_before_converted": sum(row.converted > 0 for row in own),
            }
        )
    _update(db, ("before_slates", "before_clicked", "before_converted"), renewed)


def _renew_votes(
    db: Connection,
    rows: Mapping[VisitorKey, Any],
    touched: Iterable[ShownSlate],
    keys: Mapping[str, VisitorKey],
    starts: Mapping[str, list[DesignStart]],
) -> None:
    """Find the votes of visitors again. One stays as it is when its slate has expired."""
    stale = {
        key
        for slate in touched
        if slate.teams and (key := keys.get(slate.recommendation_id)) is not None and key in rows
    }
    if not stale:
        return
    found = _clicked_slates(db, stale, starts)
    voters = {rows[key].voted_by for key in stale} - {""}
    kept = {
        each
        for some in chunks(voters)
        for each in db.scalars(
            select(slates.c.recommendation_id).where(slates.c.recommendation_id.in_(some))
        )
    }
    renewed = []
    for key in stale:
        row = rows[key]
        if row.vote and row.voted_by not in kept:
            continue
        start = next(each for each in starts[key.experiment] if each.revision == key.revision)
        now = vote(found.get(key, ()), start.control)
        renewed.append({**_at(key), **{f"to_{name}": it for name, it in now._asdict().items()}})
    _update(db, Vote._fields, renewed)


def _clicked_slates(
    db: Connection, keys: Collection[VisitorKey], starts: Mapping[str, list[DesignStart]]
) -> dict[VisitorKey, list[ClickedSlate]]:
    """The clicked interleaved slates of visitors that are still kept."""
    s, r = slates.c, responses.c
    columns = (
        select(s.user_id, s.variant, s.timestamp, s.recommendation_id, s.teams, r.item_id)
        .join(responses, r.attributed == s.recommendation_id)
        .where(s.teams.is_not(None), s.substituted.is_(None), ~r.converted)
        .order_by(s.recommendation_id)
    )
    found: dict[VisitorKey, list[ClickedSlate]] = {}
    for experiment in {key.experiment for key in keys}:
        for some in chunks({key.user_id for key in keys if key.experiment == experiment}):
            of_them = and_(s.experiment == experiment, s.user_id.in_(some))
            answered = db.execute(columns.where(of_them))
            for (user_id, variant, at, slate_id, teams), group in groupby(
                answered, key=lambda row: tuple(row[:5])
            ):
                start = start_at(starts[experiment], at)
                if start is not None:
                    key = VisitorKey(experiment, start.revision, user_id, variant)
                    clicked = frozenset(row.item_id for row in group)
                    found.setdefault(key, []).append(
                        ClickedSlate(at, slate_id, orjson.loads(teams), clicked)
                    )
    return found


def rows_of_visitors(db: Connection, user_ids: Collection[str]) -> Iterator[dict[str, Any]]:
    """All sums of these visitors."""
    for some in chunks(user_ids):
        query = select(visitor_sums).where(visitor_sums.c.user_id.in_(some))
        for row in db.execute(query.order_by(*visitor_sums.primary_key.columns)):
            yield dict(row._mapping)


def expire_sums(db: Connection, before: int) -> None:
    """Delete the sums of experiments that have ended, or were stopped or deleted, before a time."""
    ended = [
        it.name
        for it in _experiments(db, _newest)
        if (it.deleted or it.design.state == "stopped" or (it.design.ends_at or before) < before)
        and it.changed_at < before
    ]
    for some in chunks(ended):
        for each in (visitor_sums, experiment_currencies):
            db.execute(delete(each).where(each.c.experiment.in_(some)))
