"""The SQL of an experiment's results, over the slates that are kept."""

from collections.abc import Iterator
from itertools import groupby

import orjson
from sqlalchemy import Connection, Engine, case, func, select

from services.monitoring.experiments.results import (
    ClickedSlate,
    ExperimentResults,
    HitSums,
    VariantSums,
    interleaved_result,
    variant_results,
)
from services.monitoring.slate_tables import responses, slates
from slipstream.contracts.experiments import HOLDOUT, INTERLEAVED, Experiment

_ROWS_AT_ONCE = 1_000


def experiment_results(engine: Engine, experiment: Experiment) -> ExperimentResults:
    """The results of an experiment: sums are made by the database, votes while rows are read."""
    names = [variant.name for variant in experiment.design.variants]
    interleaves = experiment.design.kind == "interleave"
    shown = [HOLDOUT, INTERLEAVED] if interleaves else [*names, HOLDOUT]
    with engine.connect() as db:
        since = db.scalar(
            select(func.min(slates.c.timestamp)).where(slates.c.experiment == experiment.name)
        )
        return ExperimentResults(
            experiment=experiment.name,
            control=names[0],
            from_=since,
            variants=variant_results(shown, _sums(db, experiment.name)),
            interleaved=interleaved_result(names[0], _clicked_slates(db, experiment.name))
            if interleaves
            else None,
        )


def _sums(db: Connection, experiment: str) -> dict[str, VariantSums]:
    s = slates.c
    clicked, converted = (
        func.sum(case((each > 0, 1), else_=0)) for each in (s.clicked, s.converted)
    )
    visitors = (
        select(s.variant, func.count().label("n"), clicked.label("c"), converted.label("p"))
        .where(s.experiment == experiment, s["items"] != "[]")
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


def _clicked_slates(db: Connection, experiment: str) -> Iterator[ClickedSlate]:
    """Clicked interleaved slates, by visitor."""
    s, r = slates.c, responses.c
    query = (
        select(s.user_id, s.recommendation_id, s.teams, r.item_id)
        .join(responses, r.attributed == s.recommendation_id)
        .where(s.experiment == experiment, s.teams.is_not(None), ~r.converted)
        .order_by(s.user_id, s.recommendation_id)
        .execution_options(yield_per=_ROWS_AT_ONCE)
    )
    for (user_id, _, teams), rows in groupby(db.execute(query), key=lambda row: tuple(row[:3])):
        yield ClickedSlate(user_id, orjson.loads(teams), frozenset(row[3] for row in rows))
