"""The SQL of an experiment's results: sums over its visitors, answers, and shadows."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import isnan, nan
from typing import Any, Final

import orjson
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Float,
    Select,
    Subquery,
    and_,
    case,
    cast,
    func,
    select,
)

from services.monitoring.answers import EXPERIMENT_STEP_MS, Latencies
from services.monitoring.answers_repository import merged
from services.monitoring.control.guards import Judgement, Makers, WindowSums, judge
from services.monitoring.control.results import (
    METRICS,
    Division,
    EarlierDesign,
    ExperimentResults,
    Metric,
    ShadowResult,
    VariantSums,
    chosen_metrics,
    expected_shares,
    shadow_result,
    share_check,
    variant_results,
)
from services.monitoring.control.verdicts import Period, compared, verdicts
from services.monitoring.counting.tables import (
    credits,
    experiment_currencies,
    identities,
    visitor_sums,
)
from services.monitoring.counting.visitor_sums_repository import starts_of
from services.monitoring.slate_tables import answers, shadows, watermarks
from slipstream.contracts.experiments import Experiment
from slipstream.contracts.topics import RECOMMENDATIONS
from slipstream.evaluation.experiments.moments import Moments

_ROWS_AT_ONCE = 1_000
# Most shadows of a variant, the newest ones, that percentiles and overlaps are read from; and most
# sums of answers that latencies are.
NEWEST: Final = 10_000
_NEWEST_SUMS: Final = 1_000
# A canary is returned for lost clicks where chance would do so once in a thousand canaries.
_CLICKS_ALPHA: Final = 0.001

_PAST: Final = ("before_clicked", "before_converted")
_SUMS: Final = (
    *("slates", "empty", "failed", "clicked_slates", "clicked_items", "converted_slates"),
    *("purchases", "revenue", "timed", "latency"),
)

# A sum over visitors: of a column, of the product of two, or their number; or of those with a hit.
Term = tuple[str, ...]


def experiment_results(engine: Engine, experiment: Experiment, now_ms: int) -> ExperimentResults:
    """The results of an experiment's newest design, which the database sums by variant."""
    design, name = experiment.design, experiment.name
    with engine.connect() as db:
        starts = starts_of(db, name)
        revision = starts[-1].revision if starts else experiment.revision
        visitors, chosen = _visitors(name, revision), chosen_metrics(design)
        division, period = _division(db, visitors, experiment)
        sums = _sums(db, visitors, chosen, excluding=division.excluded)
        # The guard counts every visitor.
        everyone = _sums(db, visitors, chosen) if division.excluded else sums
        shares = share_check(design, division)
        shadow_of = design.variants[1].name if design.kind == "shadow" else None
        return ExperimentResults(
            experiment=name,
            revision=revision,
            control=design.variants[0].name,
            metric=design.metric,
            least_effect=design.least_effect,
            from_=period.since,
            until=period.until,
            variants=variant_results(design, sums, _makers(db, name), division),
            verdicts=verdicts(design, sums, shares, period, _currencies(db, name, revision)),
            shares=shares,
            shadow=_shadow(db, name, shadow_of) if shadow_of else None,
            guard=_judged(db, experiment, _clicks_high(experiment, everyone), now_ms)
            if design.kind == "canary"
            else None,
            earlier=[_earlier(db, experiment, start.revision) for start in starts[:-1]],
        )


def clicks_high(engine: Engine, experiment: Experiment) -> float | None:
    """The upper end of a canary's relative click-through, as its guard takes it."""
    with engine.connect() as db:
        starts = starts_of(db, experiment.name)
        revision = starts[-1].revision if starts else experiment.revision
        return _clicks_high(
            experiment, _sums(db, _visitors(experiment.name, revision), ["click_through"])
        )


def judgement(
    engine: Engine, experiment: Experiment, clicks_high: float | None, now_ms: int
) -> Judgement:
    """The judgement of a canary by its guard."""
    with engine.connect() as db:
        return _judged(db, experiment, clicks_high, now_ms)


def _visitors(name: str, revision: int) -> tuple[Subquery, Subquery]:
    """The sums of a design by visitor and variant: of visitors with one id, and of users.

    A login changes the id, and so the variant of later slates. They count for that of the first
    id, by which the user was assigned. The past is that of the first id, too.
    """
    v = visitor_sums.c
    own = v.experiment == name, v.revision == revision
    columns = [v[it] for it in ("variant", "first_at", "last_at", *_SUMS, *_PAST)]
    alone = select(v.user_id.label("visitor"), *columns).where(*own, v.linked.is_(None))
    visitor = func.coalesce(identities.c.person, v.user_id)
    order = v.first_at, v.user_id, v.variant
    by_time: dict[str, Any] = {"partition_by": visitor, "order_by": order}
    each = (
        select(
            visitor_sums,
            visitor.label("visitor"),
            func.first_value(v.user_id).over(**by_time).label("first_id"),
            func.first_value(v.variant).over(**by_time).label("first_variant"),
        )
        .outerjoin_from(visitor_sums, identities, identities.c.visitor == v.user_id)
        .where(*own, v.linked.is_not(None))
        .subquery()
        .c
    )
    is_first = each.user_id == each.first_id
    variant = case((is_first, each.variant), else_=each.first_variant)
    users = select(
        each.visitor,
        variant.label("variant"),
        func.min(each.first_at).label("first_at"),
        func.max(each.last_at).label("last_at"),
        *(func.sum(each[it]).label(it) for it in _SUMS),
        *(func.sum(case((is_first, each[it]), else_=0)).label(it) for it in _PAST),
    ).group_by(each.visitor, variant)
    return alone.subquery(), users.subquery()


def _division(
    db: Connection, visitors: Sequence[Subquery], experiment: Experiment
) -> tuple[Division, Period]:
    counts, times, in_two = Counter[str](), list[int](), 0
    for part in visitors:
        c = part.c
        query = select(c.variant, func.count(), func.min(c.first_at), func.max(c.last_at))
        for variant, count, first_at, last_at in db.execute(query.group_by(c.variant)):
            counts[variant] += count
            times += first_at, last_at
        in_two += db.scalar(select(func.count()).select_from(_crossing(part).subquery())) or 0
    shares = {round(share, 9) for share in expected_shares(experiment.design).values()}
    division = Division(counts, in_two, in_two > 0 and len(shares) == 1)
    return division, Period(min(times, default=None), max(times, default=None))


def _crossing(visitors: Subquery) -> Select[Any]:
    """Those in two variants."""
    c = visitors.c
    return select(c.visitor).group_by(c.visitor).having(func.count() > 1)


def _sums(
    db: Connection,
    visitors: Sequence[Subquery],
    metrics: Collection[str],
    *,
    excluding: bool = False,
) -> dict[str, VariantSums]:
    """The sums of each variant, with all moments that the metrics need.

    `excluding` leaves out visitors in two variants.
    """
    needed = {metric: _terms(METRICS[metric]) for metric in metrics}
    terms = sorted({term for each in needed.values() for term in each.values()} | {(), ("slates",)})
    totals: dict[str, dict[Term, float]] = {}
    for part in visitors:
        c = part.c
        query = select(c.variant, *(_expression(c, term) for term in terms)).group_by(c.variant)
        if excluding:
            query = query.where(c.visitor.not_in(_crossing(part)))
        for variant, *values in db.execute(query):
            total = totals.setdefault(variant, dict.fromkeys(terms, 0.0))
            for term, value in zip(terms, values, strict=True):
                total[term] += float(value)
    return {
        variant: VariantSums(
            int(total[()]),
            int(total[("slates",)]),
            {
                metric: Moments.of({field: total[term] for field, term in of_metric.items()})
                for metric, of_metric in needed.items()
            },
        )
        for variant, total in totals.items()
    }


def _terms(metric: Metric) -> dict[str, Term]:
    """The sum that each moment of a metric is; the denominator 1 is the number of visitors."""
    columns = {"a": metric.numerator, "b": metric.denominator}
    if metric.past:
        columns |= {"c": metric.past, "d": ""}
    fields = {
        field: tuple(sorted(columns[part] for part in field if columns[part]))
        for field in Moments._fields[2:]
        if set(field) <= columns.keys()
    }
    return {"visitors": (), "hits": (">", metric.numerator), **fields}


def _expression(columns: Any, term: Term) -> ColumnElement[Any]:
    if not term:
        return func.count()
    if term[0] == ">":
        return func.sum(case((columns[term[1]] > 0, 1), else_=0))
    first = cast(columns[term[0]], Float)
    return func.sum(first * columns[term[1]] if len(term) > 1 else first)


def _currencies(db: Connection, name: str, revision: int) -> Mapping[str, int]:
    c = experiment_currencies.c
    query = select(c.currency, c.purchases).where(c.experiment == name, c.revision == revision)
    return {row.currency: row.purchases for row in db.execute(query)}


def _earlier(db: Connection, experiment: Experiment, revision: int) -> EarlierDesign:
    division, period = _division(db, _visitors(experiment.name, revision), experiment)
    visitors = sum(division.visitors.values())
    return EarlierDesign(
        revision=revision, from_=period.since, until=period.until, visitors=visitors
    )


def _makers(db: Connection, experiment: str) -> dict[str, Makers]:
    """The makers of the slates of each variant that are kept."""
    a = answers.c
    of_experiment = a.experiment == experiment
    counts = select(a.variant, a.model_version, a.substituted, func.sum(a.slates))
    rows = db.execute(
        counts.where(of_experiment).group_by(a.variant, a.model_version, a.substituted)
    )
    latencies: dict[str, list[Any]] = {}
    newest = select(a.variant, a.timed, a.total_ms, a.squares, a.bins)
    own = of_experiment, a.substituted == "", a.timed > 0
    for variant, *row in db.execute(
        newest.where(*own).order_by(a.start.desc()).limit(_NEWEST_SUMS)
    ):
        latencies.setdefault(variant, []).append(row)
    return _made_by(rows, {variant: merged(each) for variant, each in latencies.items()})


def _makers_of_shadows(db: Connection, experiment: str) -> dict[str, Makers]:
    """The makers of the shadows of each variant."""
    t = shadows.c
    of_experiment = t.experiment == experiment
    counts = select(t.variant, t.model_version, t.substituted, func.count()).where(of_experiment)
    rows = db.execute(counts.group_by(t.variant, t.model_version, t.substituted))
    newest = select(t.variant, t.latency_ms).where(of_experiment, t.substituted == "")
    latencies: dict[str, Latencies] = {}
    for variant, latency_ms in db.execute(newest.order_by(t.timestamp.desc()).limit(NEWEST)):
        latencies.setdefault(variant, Latencies()).add(latency_ms)
    return _made_by(rows, latencies)


def _made_by(rows: Iterable[Any], latencies: Mapping[str, Latencies]) -> dict[str, Makers]:
    """The makers by variant, from rows of variant, model version, reason, and number."""
    models: dict[str, dict[str, int]] = {}
    substituted: dict[str, dict[str, int]] = {}
    for variant, version, reason, count in rows:
        of_variant = (substituted if reason else models).setdefault(variant, {})
        of_variant[reason or version] = of_variant.get(reason or version, 0) + int(count)
    return {
        variant: Makers(
            models.get(variant, {}),
            substituted.get(variant, {}),
            latencies.get(variant, Latencies()),
        )
        for variant in {*models, *substituted}
    }


def _shadow(db: Connection, experiment: str, variant: str) -> ShadowResult:
    d, c = shadows.c, credits.c
    own = and_(d.experiment == experiment, d.variant == variant, d.substituted == "")
    overlaps = select(d.overlap).where(own, d.overlap.is_not(None))
    clicked = (
        select(d.recommendation_id, d["items"], c.item_id)
        .join(credits, c.recommendation_id == d.shadow_of)
        .where(own, c.kind == "click")
        .execution_options(yield_per=_ROWS_AT_ONCE)
    )
    return shadow_result(
        variant,
        _makers_of_shadows(db, experiment).get(variant, Makers()),
        db.scalars(overlaps.order_by(d.timestamp.desc()).limit(NEWEST)).all(),
        (item_id in orjson.loads(items) for _, items, item_id in db.execute(clicked)),
    )


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
    # The step in which the window began counts, that of a change has slates from before it.
    step = EXPERIMENT_STEP_MS
    since = max(began_ms - began_ms % step, -(-changed_ms // step) * step)
    window = _window_sums(db, experiment.name, since)
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
    """The sums of each variant's slates since a time (ms), which begins a step of answers."""
    a, found = answers.c, dict[str, WindowSums]()
    where = a.experiment == experiment, a.start >= since
    latencies: dict[str, list[Any]] = {}
    for row in db.execute(select(answers).where(*where)):
        is_own = row.answered_by == "model" and not row.substituted
        before = found.get(row.variant, WindowSums())
        found[row.variant] = before._replace(
            slates=before.slates + row.slates,
            absent=before.absent + row.slates * (row.substituted == "absent"),
            failed=before.failed + row.slates * (row.substituted not in ("", "absent")),
            by_model=before.by_model + row.slates * is_own,
        )
        if is_own:
            latencies.setdefault(row.variant, []).append(row[9:])
    return {
        variant: sums._replace(latencies=merged(latencies.get(variant, ())))
        for variant, sums in found.items()
    }
