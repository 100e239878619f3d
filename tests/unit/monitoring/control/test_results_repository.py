"""Results from slates and responses in real SQLite, as the topics and the lake bring them."""

from itertools import count
from typing import Any, cast
from weakref import WeakKeyDictionary

import numpy as np
import orjson
import pytest
from sqlalchemy import Engine, select

from services.monitoring.arrivals import ArrivalSorter
from services.monitoring.control.experiments_repository import ExperimentTable
from services.monitoring.control.named_records_repository import NoRecordError
from services.monitoring.control.results import VariantResult
from services.monitoring.counting.counter import Counter
from services.monitoring.counting.credit import Rules
from services.monitoring.counting.outcomes_repository import OutcomeTable
from services.monitoring.counting.tables import experiment_currencies, visitor_sums
from services.monitoring.repository import RecordLog
from slipstream.broker.records import Message
from slipstream.contracts.events import Interaction, Slate, SlateItem
from slipstream.evaluation.experiments.moments import difference
from slipstream.stores.lake_reader import LakeReader
from tests.unit.broker.scripted import SOURCE
from tests.unit.evaluation.experiments.test_moments import moments
from tests.unit.monitoring.builders import recorded
from tests.unit.monitoring.control.test_experiments_repository import (
    CHANGE,
    design,
    table_with_placements,
)
from tests.unit.monitoring.counting.shop_lake import MemoryLake

NOW = 1_790_000_000_000


def slate(name: str, user_id: str, variant: str, items: str = "xy", **more: Any) -> Slate:
    return Slate(
        recommendation_id=name,
        user_id=user_id,
        timestamp=NOW,
        items=[SlateItem(each, 1.0, "model") for each in items],
        answered_by="model",
        experiment="calmer",
        variant=variant,
        **more,
    )


def event(event_id: str, user_id: str, item_id: str, named: str, kind: str) -> Interaction:
    return Interaction(
        event_id=event_id,
        event_type=kind,
        user_id=user_id,
        item_id=item_id,
        timestamp=NOW + 5,
        received_at=NOW + 5,
        recommendation_id=named,
    )


_offsets = count()
_sorters = WeakKeyDictionary[Engine, ArrivalSorter]()
_lakes = WeakKeyDictionary[Engine, MemoryLake]()


def take(db: Engine, *records: Slate | Interaction) -> None:
    """Bring records as the topics and the lake do."""
    read = [recorded(each) if isinstance(each, Slate) else each for each in records]
    messages = [Message(SOURCE, next(_offsets), "", record, "") for record in read]
    sorter = _sorters.setdefault(db, ArrivalSorter())
    RecordLog(db).record(sorter.sort(messages, 0), NOW + 10)
    lake = _lakes.setdefault(db, MemoryLake())
    rows = [each.model_dump() for each in records]
    for row in rows:
        row |= {name: orjson.dumps(it).decode() for name, it in row.items() if type(it) is dict}
    slates = [row for row in rows if "purpose" in row]
    lake.append(slates, [row for row in rows if "event_id" in row])
    table = OutcomeTable(db, lambda _digests: {})
    Counter(cast(LakeReader, lake), table, Rules(60_000), lambda: NOW + 10).step()


def put(db: Engine, kind: str) -> ExperimentTable:
    table = table_with_placements(db)
    table.put("calmer", design(kind=kind), CHANGE)
    return table


def rates(result: VariantResult) -> tuple[int, float | None]:
    """Visitors who clicked, and the conversion."""
    return result.metrics["click_through"].hits, result.metrics["conversion"].value.value


def test_slates_are_summed_by_visitor_and_variant(db: Engine) -> None:
    table = put(db, "split")
    take(
        db,
        slate("1", "ada", "a"),
        slate("2", "ada", "a"),
        slate("3", "bo", "b"),
        slate("4", "cy", "b", items=""),
        slate("5", "di", "holdout"),
        slate("6", "ada", "a").model_copy(update={"experiment": "other"}),
        event("e1", "ada", "x", "1", "view"),
        event("e2", "ada", "y", "1", "view"),
        event("e3", "bo", "y", "3", "purchase"),
    )
    results = table.results("calmer", NOW)
    assert (results.control, results.from_) == ("a", NOW)
    assert (results.revision, results.metric, results.earlier) == (1, "click_through", [])

    def found() -> list[tuple[object, ...]]:
        return [
            (it.variant, it.visitors, it.slates, *rates(it))
            for it in table.results("calmer", NOW).variants
        ]

    # An empty list counts: the variant chose it.
    assert found() == [("a", 1, 2, 1, 0), ("b", 2, 2, 0, 0.5), ("holdout", 1, 1, 0, 0)]
    assert results.variants[0].metrics["click_through"].value.value == 0.5
    before = found()
    RecordLog(db).expire(shadows_before=NOW + 1, answers_before=NOW + 1)
    assert found() == before
    with pytest.raises(NoRecordError):
        table.results("other", NOW)


def test_slates_that_the_champion_made_count_for_their_variant(db: Engine) -> None:
    table = put(db, "split")
    take(
        db,
        slate("1", "ada", "b", model_version="9", latency_ms=4.0),
        slate("2", "ada", "b", model_version="7", latency_ms=90.0, substituted="failed"),
        slate("3", "bo", "b", model_version="7", latency_ms=90.0, substituted="absent"),
        slate("4", "ada", "b", model_version="8", latency_ms=6.0),
        slate("5", "cy", "a", model_version="7", latency_ms=1.0),
        event("e1", "ada", "x", "2", "view"),
    )
    control, other = table.results("calmer", NOW).variants[:2]
    assert (control.models, control.substituted) == ({"7": 1}, {})
    assert (other.visitors, other.slates, other.metrics["click_through"].hits) == (2, 4, 1)
    assert (other.models, other.substituted) == ({"8": 1, "9": 1}, {"absent": 1, "failed": 1})
    latency = other.latency_ms
    assert (latency.slates, latency.mean) == (2, 5.0)
    assert latency.p99 == pytest.approx(6.0, rel=0.02)


def test_results_are_of_the_newest_design_and_name_the_earlier_ones(db: Engine) -> None:
    table = put(db, "split")
    later = {"timestamp": NOW + 20_000}
    first = [slate("1", "ada", "a"), slate("2", "bo", "b")]
    take(db, *first, event("e1", "ada", "x", "1", "view"))
    for changes in ({"traffic": 0.5}, {"traffic": 0.5, "metric": "conversion"}):
        audit = CHANGE.model_copy(update={"at": NOW + 10_000})
        table.put("calmer", design(**changes), audit)
    take(db, slate("3", "cy", "a").model_copy(update=later))
    results = table.results("calmer", NOW)
    assert (results.revision, results.from_, results.metric) == (2, NOW + 20_000, "conversion")
    assert [it.visitors for it in results.variants] == [1, 0, 0]
    (earlier,) = results.earlier
    assert (earlier.revision, earlier.from_, earlier.visitors) == (1, NOW, 2)


def test_the_database_sums_the_moments_of_visitors(db: Engine) -> None:
    table, random, n = put(db, "split"), np.random.default_rng(6), 1_500
    taste, length = random.beta(1, 5, n), random.geometric(0.3, n)
    before = random.poisson(5, n)
    columns = {
        "slates": length,
        "clicked_slates": random.binomial(length, taste),
        "before_clicked": random.binomial(before, taste),
    }
    nothing = dict.fromkeys((it.name for it in visitor_sums.columns), 0)
    rows = [
        nothing
        | {"experiment": "calmer", "revision": 1, "user_id": f"u{at}", "variant": "ab"[at % 2]}
        | {name: int(values[at]) for name, values in columns.items()}
        | {"linked": None}
        for at in range(n)
    ]
    with db.begin() as connection:
        connection.execute(visitor_sums.insert(), rows)
    found = table.results("calmer", NOW).variants[1].metrics["click_through"]
    arms = [
        moments(
            *(
                columns[name][arm::2].astype(float)
                for name in ("clicked_slates", "slates", "before_clicked")
            ),
            np.ones(n // 2),
        )
        for arm in (1, 0)
    ]
    gap = difference(arms[0], arms[1], 0.05, most=1.0)
    assert found.relative is not None and found.explained is not None and found.explained > 0.01
    assert found.explained == pytest.approx(float(gap.explained))
    assert [found.relative.value, found.relative.low, found.relative.high] == pytest.approx(
        [float(each) for each in gap.relative]
    )


@pytest.mark.parametrize(("weight", "excluded"), [(1, True), (3, False)])
def test_visitors_in_two_variants_are_left_out_where_shares_are_equal(
    db: Engine, weight: int, excluded: bool
) -> None:
    table = table_with_placements(db)
    table.put("calmer", design(variants=[{"name": "a"}, {"name": "b", "weight": weight}]), CHANGE)
    take(
        db,
        slate("1", "ada", "a"),
        slate("2", "ada", "b"),
        slate("3", "bo", "a"),
        event("e", "ada", "x", "1", "view"),
    )
    results = table.results("calmer", NOW)
    shares = results.shares
    assert (shares.in_two_variants, shares.excluded) == (1, excluded)
    assert shares.visitors == {"a": 2, "b": 1}
    assert [it.slates for it in results.variants] == ([1, 0, 0] if excluded else [2, 1, 0])


def link(db: Engine, *visitors: str) -> None:
    """Let these visitors become ada."""
    OutcomeTable(db, lambda _digests: {}).merge([(each, "ada") for each in visitors])


@pytest.mark.parametrize("early", [False, True])
def test_a_user_counts_once_for_the_variant_of_the_first_id(db: Engine, early: bool) -> None:
    table = put(db, "split")
    if early:
        link(db, "anonymous", "phone")
    later = {"timestamp": NOW + 1_000}
    take(
        db,
        slate("1", "anonymous", "a"),
        slate("2", "ada", "b").model_copy(update=later),
        slate("3", "phone", "b").model_copy(update=later),
        slate("4", "bo", "b"),
        event("e1", "anonymous", "x", "1", "view"),
        event("e2", "ada", "y", "2", "view").model_copy(update=later),
    )
    if not early:
        link(db, "anonymous", "phone")
    results = table.results("calmer", NOW)
    assert (results.shares.visitors["a"], results.shares.visitors["b"]) == (1, 1)
    assert results.shares.in_two_variants == 0
    assert [(it.visitors, it.slates) for it in results.variants[:2]] == [(1, 3), (1, 1)]
    assert rates(results.variants[0]) == (1, 0)
    assert results.variants[0].metrics["click_through"].value.value == pytest.approx(2 / 3)


def test_money_is_summed_and_the_past_of_visitors_counts(db: Engine) -> None:
    table = table_with_placements(db)
    table.put("calmer", design(metric="revenue_per_visitor"), CHANGE)
    outside = {"experiment": "", "variant": "champion", "timestamp": NOW - 1_000}
    earlier = {"timestamp": NOW - 500}
    paid = {"value": 12.5, "properties": {"currency": "eur"}}
    take(
        db,
        slate("0", "ada", "a").model_copy(update=outside),
        slate("1", "ada", "a"),
        slate("2", "bo", "a"),
        event("e0", "ada", "x", "0", "view").model_copy(update=earlier),
        event("e1", "ada", "x", "1", "purchase").model_copy(update=paid),
        event("e2", "ada", "y", "1", "purchase").model_copy(update={"value": 2.5}),
        event("e3", "bo", "y", "2", "cart").model_copy(update={"value": 99.0}),
        event("e4", "bo", "y", "2", "purchase").model_copy(update={"value": float(10**12)}),
    )
    control = table.results("calmer", NOW).variants[0]
    assert list(control.metrics) == ["revenue_per_visitor", "click_through", "conversion"]
    assert control.metrics["revenue_per_visitor"].value.value == 7.5
    with db.connect() as connection:
        rows = connection.execute(
            select(visitor_sums.c.user_id, visitor_sums.c.before_clicked, visitor_sums.c.purchases)
        )
        assert {tuple(row) for row in rows} == {("ada", 1, 2), ("bo", 0, 1)}
        found = {tuple(row[2:]) for row in connection.execute(select(experiment_currencies))}
        assert found == {("EUR", 1), ("", 1)}


def test_a_shadow_is_compared_with_what_was_shown_and_counted_nowhere_else(db: Engine) -> None:
    table = put(db, "shadow")
    more: dict[str, Any] = {"purpose": "shadow", "model_version": "9", "latency_ms": 3.0}
    records = [
        slate("1", "ada", "a", items="wxyz", model_version="7"),
        slate("2", "bo", "a", items="xy", model_version="7"),
        slate("3", "cy", "a", items="", model_version="7"),
        slate("s1", "ada", "b", items="wqrs", shadow_of="1", **more),
        slate("s2", "bo", "b", items="xy", shadow_of="2", **more),
        slate("s3", "cy", "b", items="xy", shadow_of="3", **more),
        slate("s4", "di", "b", "", shadow_of="4", substituted="failed", purpose="shadow"),
        event("e1", "ada", "w", "1", "view"),
        event("e2", "ada", "x", "1", "view"),
        event("e3", "bo", "y", "2", "view"),
        event("e4", "bo", "y", "2", "view"),
        event("e5", "bo", "x", "2", "purchase"),
        # Its id is no client's to know, and attributes nothing.
        event("e6", "ada", "q", "s1", "view"),
    ]
    take(db, *records)
    take(db, *records)
    results = table.results("calmer", NOW)
    assert [it.variant for it in results.variants] == ["a", "holdout"]
    assert results.variants[0].slates == 3
    assert results.variants[0].metrics["click_through"].hits == 2
    shadow = results.shadow
    assert shadow is not None
    assert (shadow.variant, shadow.slates, shadow.models) == ("b", 4, {"9": 3})
    assert (shadow.substituted, shadow.latency_ms.mean) == ({"failed": 1}, 3.0)
    assert (shadow.compared, shadow.overlap) == (2, pytest.approx((0.25 + 1) / 2))
    assert (shadow.clicked, shadow.clicked_in_shadow) == (3, 2)
    counts = OutcomeTable(db, lambda _digests: {}).counts(0, NOW * 2).values()
    assert (sum(it.slates for it in counts), sum(it.clicked_slates for it in counts)) == (3, 2)
