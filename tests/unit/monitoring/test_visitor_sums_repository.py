"""Sums by visitor, kept in pieces, are those of all slates and responses at once."""

from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from services.monitoring.attribution import Arrivals, Response, ShownSlate, join
from services.monitoring.people.repository import ErasureLedger, keep_visitors
from services.monitoring.repository import SlateLog
from services.monitoring.slate_tables import experiment_currencies, visitor_sums
from slipstream.contracts.events import ErasedVisitors
from slipstream.contracts.rest import AuditRecord
from tests.unit.monitoring.builders import T0, WINDOW_MS, database, response, shown
from tests.unit.monitoring.control.test_experiments_repository import design, table_with_placements
from tests.unit.monitoring.strategies import experiment_traffic

# Between the two groups of times that the traffic has.
CHANGED = T0 + WINDOW_MS // 2
IN = {"experiment": "calmer", "variant": "a"}


def prepared(engine: Engine) -> SlateLog:
    """A log with the experiments of the traffic; the design of `calmer` changes once."""
    table = table_with_placements(engine)

    def put(name: str, at: int, **changes: Any) -> None:
        audit = AuditRecord(at=at, principal="ada", action="put_experiment", subject=name)
        table.put(name, design(**changes), audit)

    put("calmer", T0 - 1_000)
    put("calmer", CHANGED, salt="again")
    put("mixed", T0 - 1_000, kind="interleave", placements=["cart"])
    return SlateLog(engine, WINDOW_MS)


def stored(engine: Engine) -> dict[tuple[str, int, str, str], dict[str, Any]]:
    with engine.connect() as db:
        return {
            (row.experiment, row.revision, row.user_id, row.variant): dict(row._mapping)
            for row in db.execute(select(visitor_sums))
        }


def expected(
    slates: list[ShownSlate], responses: list[Response]
) -> dict[tuple[str, int, str, str], dict[str, Any]]:
    """The sums by their definitions."""
    by_id = {slate.recommendation_id: slate for slate in slates}
    led_to = defaultdict[str | None, list[Response]](list)
    for event_id, slate_id in join(by_id, responses, WINDOW_MS).items():
        led_to[slate_id].append(next(it for it in responses if it.event_id == event_id))

    def clicks(slate: ShownSlate) -> set[str]:
        return {it.item_id for it in led_to[slate.recommendation_id] if not it.converted}

    groups = defaultdict[tuple[str, int, str, str], list[ShownSlate]](list)
    for slate in slates:
        if slate.experiment:
            second = slate.experiment == "calmer" and slate.timestamp >= CHANGED
            key = slate.experiment, 1 + second, slate.user_id, slate.variant
            groups[key].append(slate)
    found = {}
    for key, own in groups.items():
        followed = [it for slate in own for it in led_to[slate.recommendation_id]]
        first_at = min(slate.timestamp for slate in own)
        before = [
            slate
            for slate in slates
            if slate.user_id == key[2] and slate.experiment != key[0] and slate.timestamp < first_at
        ]
        latencies = [round(10 * slate.latency_ms) for slate in own]
        votes = []
        for slate in own:
            teams = [dict(slate.teams).get(item_id) for item_id in clicks(slate)]
            balance = teams.count("b") - teams.count("a")
            if balance and not slate.substituted:
                votes.append((slate.timestamp, slate.recommendation_id, 1 if balance > 0 else -1))
        _, voted_by, vote = min(votes, default=(0, "", 0))
        found[key] = {
            **dict(zip(("experiment", "revision", "user_id", "variant"), key, strict=True)),
            "first_at": first_at,
            "last_at": max(slate.timestamp for slate in own),
            "slates": len(own),
            "empty": sum(not slate.items for slate in own),
            "failed": sum(slate.substituted != "" for slate in own),
            "clicked_slates": sum(bool(clicks(slate)) for slate in own),
            "clicked_items": sum(len(clicks(slate)) for slate in own),
            "converted_slates": sum(
                any(it.converted for it in led_to[slate.recommendation_id]) for slate in own
            ),
            "purchases": sum(
                len({it.item_id for it in led_to[slate.recommendation_id] if it.purchased})
                for slate in own
            ),
            "revenue": sum(round(1_000 * it.value) for it in followed if it.value is not None),
            "timed": sum(each > 0 for each in latencies),
            "latency": sum(latencies),
            "before_slates": len(before),
            "before_clicked": sum(bool(clicks(slate)) for slate in before),
            "before_converted": sum(
                any(it.converted for it in led_to[slate.recommendation_id]) for slate in before
            ),
            "vote": vote,
            "voted_by": voted_by,
        }
    return found


@settings(max_examples=40, deadline=None)
@given(experiment_traffic(), st.data())
def test_sums_are_the_same_in_any_order_batches_and_repetition(
    events: tuple[list[ShownSlate], list[Response]], data: st.DataObject
) -> None:
    slates, responses = events
    everything: list[ShownSlate | Response] = [*slates, *responses]
    repeats = data.draw(st.lists(st.sampled_from(everything)) if everything else st.just([]))
    delivered = data.draw(st.permutations(everything + repeats))
    with TemporaryDirectory() as folder:
        engine = database(Path(folder))
        log = prepared(engine)
        while delivered:
            size = data.draw(st.integers(1, 10))
            batch, delivered = delivered[:size], delivered[size:]
            log.record(
                Arrivals(
                    slates=[each for each in batch if isinstance(each, ShownSlate)],
                    responses=[each for each in batch if isinstance(each, Response)],
                ),
                T0,
            )
        found = stored(engine)
        with engine.connect() as db:
            counted = sum(row.purchases for row in db.execute(select(experiment_currencies)))
        engine.dispose()
    assert found == expected(slates, responses)
    by_id = {slate.recommendation_id: slate for slate in slates}
    targets = join(by_id, responses, WINDOW_MS)
    paid = [it for it in responses if it.value is not None and targets[it.event_id] is not None]
    assert counted == sum(bool(by_id[str(targets[it.event_id])].experiment) for it in paid)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return database(tmp_path)


@pytest.fixture
def log(engine: Engine) -> SlateLog:
    return prepared(engine)


KEY = ("calmer", 1, "u1", "a")


def test_sums_outlive_slates_and_a_vote_its_slate(engine: Engine, log: SlateLog) -> None:
    drafted = {"experiment": "mixed", "variant": "interleaved", "teams": (("a", "b"),)}
    log.record(
        Arrivals(
            slates=[shown("s1", **IN), shown("s2", **drafted)],
            responses=[response("e1", named="s1"), response("e2", named="s2")],
        ),
        T0,
    )
    log.expire(slates_before=T0 + 1, pending_before=0, counts_before=0)
    late = shown("s3", at=5, **drafted | {"teams": (("a", "a"),)})
    log.record(Arrivals(slates=[late], responses=[response("e3", named="s3")]), T0)
    found = stored(engine)
    assert found[KEY]["clicked_slates"] == 1
    mixed = found["mixed", 1, "u1", "interleaved"]
    assert (mixed["slates"], mixed["vote"], mixed["voted_by"]) == (2, 1, "s2")


def test_a_response_to_a_slate_from_before_the_sums_makes_none(
    engine: Engine, log: SlateLog
) -> None:
    log.record(Arrivals(slates=[shown("s1", **IN)]), T0)
    with engine.begin() as db:
        db.execute(visitor_sums.delete())
    log.record(Arrivals(responses=[response("e1", named="s1")]), T0)
    assert stored(engine) == {}


def test_sums_go_when_their_experiment_has_ended_for_long(engine: Engine, log: SlateLog) -> None:
    log.record(Arrivals(slates=[shown("s1", **IN)], responses=[response("e", named="s1")]), T0)
    log.expire(slates_before=0, pending_before=0, counts_before=T0 + WINDOW_MS * 2)
    assert stored(engine)
    stop = AuditRecord(at=CHANGED + 9, principal="ada", action="put_experiment", subject="calmer")
    table_with_placements(engine).put("calmer", design(salt="again", state="stopped"), stop)
    log.expire(slates_before=0, pending_before=0, counts_before=CHANGED + 9)
    assert stored(engine)
    log.expire(slates_before=0, pending_before=0, counts_before=CHANGED + 10)
    assert stored(engine) == {}


def test_sums_are_exported_and_erased_with_their_visitor(engine: Engine, log: SlateLog) -> None:
    slates = [shown("s1", **IN), shown("s2", user="u2", **IN)]
    log.record(Arrivals(slates=slates), T0)
    rows = [row for kind, row in log.rows_of(["u1", "u3"]) if kind == "experiment"]
    assert rows == [stored(engine)[KEY]]
    told = ErasedVisitors(
        erasure_id="x", visitor_ids=["u1"], asked_at=T0, slates_until=T0, last=True, cut={}
    )
    with engine.begin() as db:
        keep_visitors(db, [told], T0)
    assert ErasureLedger(engine, 0).delete_rows(["x"], T0) == 2
    assert {key[2] for key in stored(engine)} == {"u2"}
