"""The SQL of an experiment's results, over the slates that are kept."""

from collections.abc import Iterator
from itertools import groupby

import orjson
from sqlalchemy import Connection, Engine, Table, and_, case, func, select

from services.monitoring.control.guards import Makers, RecentAnswer
from services.monitoring.control.results import (
    ClickedSlate,
    ExperimentResults,
    HitSums,
    ShadowPair,
    ShadowResult,
    VariantSums,
    interleaved_result,
    shadow_result,
    variant_results,
)
from services.monitoring.slate_tables import responses, shadows, slates
from slipstream.contracts.experiments import HOLDOUT, INTERLEAVED, Experiment

_ROWS_AT_ONCE = 1_000
# Most slates, the newest ones, that latencies and overlaps are read from.
NEWEST = 10_000


def experiment_results(engine: Engine, experiment: Experiment) -> ExperimentResults:
    """The results of an experiment: sums are made by the database, votes while rows are read."""
    names, kind = [variant.name for variant in experiment.design.variants], experiment.design.kind
    shown = {
        "interleave": [HOLDOUT, INTERLEAVED],
        "shadow": [names[0], HOLDOUT],
    }.get(kind, [*names, HOLDOUT])
    with engine.connect() as db:
        since = db.scalar(
            select(func.min(slates.c.timestamp)).where(slates.c.experiment == experiment.name)
        )
        return ExperimentResults(
            experiment=experiment.name,
            control=names[0],
            from_=since,
            variants=variant_results(
                shown, _sums(db, experiment.name), _makers(db, slates, experiment.name)
            ),
            interleaved=interleaved_result(names[0], _clicked_slates(db, experiment.name))
            if kind == "interleave"
            else None,
            shadow=_shadow(db, experiment.name, names[1]) if kind == "shadow" else None,
        )


def recent_answers(engine: Engine, experiment: str, since: int) -> list[RecentAnswer]:
    """The newest slates of an experiment since a time (ms), at most `NEWEST`."""
    s = slates.c
    query = (
        select(s.variant, s.answered_by, func.coalesce(s.substituted, ""), s.latency_ms)
        .where(s.experiment == experiment, s.timestamp >= since)
        .order_by(s.timestamp.desc())
        .limit(NEWEST)
    )
    with engine.connect() as db:
        return [RecentAnswer(*row) for row in db.execute(query)]


def _sums(db: Connection, experiment: str) -> dict[str, VariantSums]:
    s = slates.c
    clicked, converted = (
        func.sum(case((each > 0, 1), else_=0)) for each in (s.clicked, s.converted)
    )
    visitors = (
        select(s.variant, func.count().label("n"), clicked.label("c"), converted.label("p"))
        .where(s.experiment == experiment, s["items"] != "[]", s.substituted.is_(None))
        .group_by(s.variant, s.user_id)
        .subquery()
    )
    v = visitors.c
    products = (v.n, v.n * v.n, v.c, v.c * v.c, v.c * v.n, v.p, v.p * v.p, v.p * v.n)
    query = select(v.variant, func.count(), *map(func.sum, products)).group_by(v.variant)
    found = {}
    for variant, count, *rest in db.execute(query):
        n, nn, c, cc, cn, p, pp, pn = map(int, rest)
        found[variant] = VariantSums(count, n, nn, HitSums(c, cc, cn), HitSums(p, pp, pn))
    return found


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


def _clicked_slates(db: Connection, experiment: str) -> Iterator[ClickedSlate]:
    """Clicked interleaved slates, by visitor."""
    s, r = slates.c, responses.c
    query = (
        select(s.user_id, s.recommendation_id, s.teams, r.item_id)
        .join(responses, r.attributed == s.recommendation_id)
        .where(s.experiment == experiment, s.teams.is_not(None), ~r.converted)
        .where(s.substituted.is_(None))
        .order_by(s.user_id, s.recommendation_id)
        .execution_options(yield_per=_ROWS_AT_ONCE)
    )
    for (user_id, _, teams), rows in groupby(db.execute(query), key=lambda row: tuple(row[:3])):
        yield ClickedSlate(user_id, orjson.loads(teams), frozenset(row[3] for row in rows))
