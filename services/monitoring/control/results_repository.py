"""The SQL of an experiment's results: sums over its visitors, and the slates that are kept."""

from collections.abc import Collection, Mapping
from math import isnan, nan
from typing import Any, Final

import orjson
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Float,
    Select,
    Table,
    and_,
    case,
    cast,
    func,
    select,
)

from services.monitoring.control.guards import Judgement, Makers, WindowSums, judge
from services.monitoring.control.results import (
    METRICS,
    Division,
    EarlierDesign,
    ExperimentResults,
    Metric,
    ShadowPair,
    ShadowResult,
    VariantSums,
    Votes,
    chosen_metrics,
    expected_shares,
    interleaved_result,
    shadow_result,
    share_check,
    variant_results,
)
from services.monitoring.control.verdicts import Period, compared, verdicts
from services.monitoring.slate_tables import (
    experiment_currencies,
    responses,
    shadows,
    slates,
    visitor_sums,
    watermarks,
)
from services.monitoring.visitor_sums_repository import starts_of
from slipstream.contracts.experiments import Experiment
from slipstream.contracts.topics import RECOMMENDATIONS
from slipstream.evaluation.experiments.moments import Moments

_ROWS_AT_ONCE = 1_000
# Most slates of a variant, the newest ones, that percentiles and overlaps are read from.
NEWEST: Final = 10_000
# A canary is returned for lost clicks where chance would do so once in a thousand canaries.
_CLICKS_ALPHA: Final = 0.001

# A sum over visitors: of a column, of the product of two, or their number; or of those with a hit.
Term = tuple[str, ...]


def experiment_results(engine: Engine, experiment: Experiment, now_ms: int) -> ExperimentResults:
    """The results of an experiment's newest design, which the database sums by variant."""
    design, name = experiment.design, experiment.name
    with engine.connect() as db:
        starts = starts_of(db, name)
        revision = starts[-1].revision if starts else experiment.revision
        division, period = _division(db, name, revision, experiment)
        chosen = chosen_metrics(design)
        sums = _sums(db, name, revision, chosen, excluding=division.excluded)
        # The guard counts every visitor.
        everyone = _sums(db, name, revision, chosen) if division.excluded else sums
        shares = share_check(design, division)
        votes = _votes(db, name, revision) if design.kind == "interleave" else None
        shadow_of = design.variants[1].name if design.kind == "shadow" else None
        return ExperimentResults(
            experiment=name,
            revision=revision,
            control=design.variants[0].name,
            metric=design.metric,
            least_effect=design.least_effect,
            from_=period.since,
            until=period.until,
            variants=variant_results(design, sums, _makers(db, slates, name), division),
            verdicts=verdicts(design, sums, shares, votes, period, _currencies(db, name, revision)),
            shares=shares,
            interleaved=interleaved_result(votes) if votes else None,
            shadow=_shadow(db, name, shadow_of) if shadow_of else None,
            guard=_judged(db, experiment, _clicks_high(experiment, everyone), now_ms)
            if design.kind == "canary"
            else None,
            earlier=[_earlier(db, name, start.revision) for start in starts[:-1]],
        )


def clicks_high(engine: Engine, experiment: Experiment) -> float | None:
    """The upper end of a canary's relative click-through, as its guard takes it."""
    with engine.connect() as db:
        starts = starts_of(db, experiment.name)
        revision = starts[-1].revision if starts else experiment.revision
        return _clicks_high(experiment, _sums(db, experiment.name, revision, ["click_through"]))


def judgement(
    engine: Engine, experiment: Experiment, clicks_high: float | None, now_ms: int
) -> Judgement:
    """The judgement of a canary by its guard."""
    with engine.connect() as db:
        return _judged(db, experiment, clicks_high, now_ms)


def _of(name: str, revision: int) -> ColumnElement[bool]:
    return and_(visitor_sums.c.experiment == name, visitor_sums.c.revision == revision)


def _division(
    db: Connection, name: str, revision: int, experiment: Experiment
) -> tuple[Division, Period]:
    v = visitor_sums.c
    query = select(v.variant, func.count(), func.min(v.first_at), func.max(v.last_at))
    rows = db.execute(query.where(_of(name, revision)).group_by(v.variant)).all()
    crossing = _crossing(name, revision).subquery()
    in_two = db.scalar(select(func.count()).select_from(crossing)) or 0
    shares = {round(share, 9) for share in expected_shares(experiment.design).values()}
    period = Period(
        min((row[2] for row in rows), default=None), max((row[3] for row in rows), default=None)
    )
    return Division(
        {row[0]: row[1] for row in rows}, in_two, in_two > 0 and len(shares) == 1
    ), period


def _crossing(name: str, revision: int) -> Select[Any]:
    v = visitor_sums.c
    return select(v.user_id).where(_of(name, revision)).group_by(v.user_id).having(func.count() > 1)


def _sums(
    db: Connection, name: str, revision: int, metrics: Collection[str], *, excluding: bool = False
) -> dict[str, VariantSums]:
    """The sums of each variant, with all moments that the metrics need.

    `excluding` leaves out visitors in two variants.
    """
    needed = {metric: _terms(METRICS[metric]) for metric in metrics}
    terms = sorted({term for each in needed.values() for term in each.values()} | {(), ("slates",)})
    where = _of(name, revision)
    if excluding:
        where = and_(where, visitor_sums.c.user_id.not_in(_crossing(name, revision)))
    query = select(visitor_sums.c.variant, *map(_expression, terms)).where(where)
    found = {}
    for variant, *values in db.execute(query.group_by(visitor_sums.c.variant)):
        total = {term: float(value) for term, value in zip(terms, values, strict=True)}
        found[variant] = VariantSums(
            int(total[()]),
            int(total[("slates",)]),
            {
                metric: Moments.of({field: total[term] for field, term in of_metric.items()})
                for metric, of_metric in needed.items()
            },
        )
    return found


def _terms(metric: Metric) -> dict[str, Term]:
    """The sum that each moment of a metric is; the denominator 1 is the number of visitors."""
    columns = {"a": metric.numerator, "b": metric.denominator}
    if metric.past:
        columns |= {"c": metric.past, "d": metric.past_denominator}
    fields = {
        field: tuple(sorted(columns[part] for part in field if columns[part]))
        for field in Moments._fields[2:]
        if set(field) <= columns.keys()
    }
    return {"visitors": (), "hits": (">", metric.numerator), **fields}


def _expression(term: Term) -> ColumnElement[Any]:
    v = visitor_sums.c
    if not term:
        return func.count()
    if term[0] == ">":
        return func.sum(case((v[term[1]] > 0, 1), else_=0))
    first = cast(v[term[0]], Float)
    return func.sum(first * v[term[1]] if len(term) > 1 else first)


def _votes(db: Connection, name: str, revision: int) -> Votes:
    v = visitor_sums.c
    is_tie = and_(v.vote == 0, v.clicked_items > 0)
    counts = [func.sum(case((it, 1), else_=0)) for it in (v.vote > 0, v.vote < 0, is_tie)]
    row = db.execute(select(*counts).where(_of(name, revision))).one()
    return Votes(wins=row[0] or 0, losses=row[1] or 0, ties=row[2] or 0)


def _currencies(db: Connection, name: str, revision: int) -> Mapping[str, int]:
    c = experiment_currencies.c
    query = select(c.currency, c.purchases).where(c.experiment == name, c.revision == revision)
    return {row.currency: row.purchases for row in db.execute(query)}


def _earlier(db: Connection, name: str, revision: int) -> EarlierDesign:
    v = visitor_sums.c
    query = select(func.min(v.first_at), func.max(v.last_at), func.count())
    since, until, visitors = db.execute(query.where(_of(name, revision))).one()
    return EarlierDesign(revision=revision, from_=since, until=until, visitors=visitors)


def _makers(db: Connection, table: Table, experiment: str) -> dict[str, Makers]:
    """The makers of the slates or the shadows of each variant."""
    t = table.c
    why = func.coalesce(t.substituted, "")
    of_experiment = t.experiment == experiment
    models: dict[str, dict[str, int]] = {}
    substituted: dict[str, dict[str, int]] = {}
    counts = select(t.variant, t.model_version, why, func.count()).where(of_experiment)
    for variant, version, reason, count in db.execute(
        counts.group_by(t.variant, t.model_version, why)
    ):
        counted = substituted if reason else models
        of_variant = counted.setdefault(variant, {})
        of_variant[reason or version] = of_variant.get(reason or version, 0) + count
    latencies: dict[str, list[float]] = {}
    newest = select(t.variant, t.latency_ms).where(of_experiment, why == "")
    for variant, latency_ms in db.execute(
        newest.where(t.latency_ms.is_not(None)).order_by(t.timestamp.desc()).limit(NEWEST)
    ):
        latencies.setdefault(variant, []).append(latency_ms)
    return {
        variant: Makers(
            models.get(variant, {}), substituted.get(variant, {}), latencies.get(variant, [])
        )
        for variant in {*models, *substituted}
    }


def _shadow(db: Connection, experiment: str, variant: str) -> ShadowResult:
    d, s, r = shadows.c, slates.c, responses.c
    own = and_(d.experiment == experiment, d.variant == variant, d.substituted == "")
    pairs = (
        select(s["items"], d["items"])
        .join(slates, s.recommendation_id == d.shadow_of)
        .where(own, s["items"] != "[]")
        .order_by(d.timestamp.desc())
        .limit(NEWEST)
    )
    clicked = (
        select(d.recommendation_id, d["items"], r.item_id)
        .join(responses, r.attributed == d.shadow_of)
        .where(own, ~r.converted)
        .distinct()
        .execution_options(yield_per=_ROWS_AT_ONCE)
    )
    return shadow_result(
        variant,
        _makers(db, shadows, experiment).get(variant, Makers()),
        (ShadowPair(_ids(shown), _ids(shadow)) for shown, shadow in db.execute(pairs)),
        (item_id in _ids(items) for _, items, item_id in db.execute(clicked)),
    )


def _ids(items: str) -> frozenset[str]:
    return frozenset(orjson.loads(items))


def _clicks_high(experiment: Experiment, sums: Mapping[str, VariantSums]) -> float | None:
    control, canary = (variant.name for variant in experiment.design.variants)
    gap = compared("click_through", sums, canary, control, _CLICKS_ALPHA)
    high = float(gap.relative.high) if gap else nan
    return None if isnan(high) else high


def _judged(
    db: Connection, experiment: Experiment, clicks_high: float | None, now_ms: int
) -> Judgement:
    design = experiment.design
    began_ms = now_ms - design.guard.window_s * 1000
    changed_ms = max(experiment.changed_at, design.starts_at or 0)
    window = _window_sums(db, experiment.name, max(began_ms, changed_ms))
    control, canary = (window.get(variant.name, WindowSums()) for variant in design.variants)
    newest = db.scalar(
        select(watermarks.c.event_time).where(watermarks.c.topic == RECOMMENDATIONS.name)
    )
    return judge(
        design.guard,
        control,
        canary,
        clicks_high=clicks_high,
        behind_s=None if newest is None else (now_ms - newest) / 1000,
        is_whole=changed_ms <= began_ms,
    )


def _window_sums(db: Connection, experiment: str, since: int) -> dict[str, WindowSums]:
    """The sums of each variant's slates since a time (ms)."""
    s = slates.c
    why = func.coalesce(s.substituted, "")
    is_own = and_(s.answered_by == "model", why == "")
    latency = case((is_own, s.latency_ms))
    # Not by the index of experiments, which would lead through slates of three days.
    where = and_(func.coalesce(s.experiment, "") == experiment, s.timestamp >= since)
    counts = (
        func.sum(case((it, 1), else_=0))
        for it in (why == "absent", why.not_in(["", "absent"]), is_own)
    )
    totals = (func.count(latency), func.sum(latency), func.sum(latency * latency))
    query = select(s.variant, func.count(), *counts, *totals).where(where).group_by(s.variant)
    found = {}
    for variant, *numbers, total_ms, squares in db.execute(query).all():
        newest = (
            select(s.latency_ms)
            .where(where, s.variant == variant, is_own, s.latency_ms.is_not(None))
            .order_by(s.timestamp.desc())
            .limit(NEWEST)
        )
        counted = WindowSums(*numbers)
        found[variant] = counted._replace(
            total_ms=total_ms or 0.0, squares=squares or 0.0, newest_ms=db.scalars(newest).all()
        )
    return found
