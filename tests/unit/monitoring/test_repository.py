"""The slate log counts in pieces what `tally` counts at once."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from services.monitoring.attribution import (
    Arrivals,
    Bucket,
    Counts,
    Response,
    ShownSlate,
    Watermark,
)
from services.monitoring.repository import SlateLog
from slipstream.contracts.events import ModelEvent, ModelEventType, Slate
from slipstream.contracts.slates import RecordedSlate
from slipstream.contracts.times import DAY_MS, now_ms
from tests.unit.monitoring.builders import T0, WINDOW_MS, database, recorded, response, shown
from tests.unit.monitoring.strategies import traffic
from tests.unit.monitoring.whole_tally import tally

ALL_TIME = (0, 2**60)


@pytest.fixture
def log(tmp_path: Path) -> SlateLog:
    return SlateLog(database(tmp_path), WINDOW_MS)


def _only(log: SlateLog) -> Counts:
    (counts,) = log.counts(*ALL_TIME).values()
    return counts


@settings(max_examples=30, deadline=None)
@given(traffic(), st.data())
def test_record_in_any_order_batches_and_repetition_gives_the_tally_of_all(
    events: tuple[list[ShownSlate], list[Response]], data: st.DataObject
) -> None:
    slates, responses = events
    everything: list[ShownSlate | Response] = [*slates, *responses]
    delivered = data.draw(
        st.permutations(
            everything
            + data.draw(st.lists(st.sampled_from(everything)) if everything else st.just([]))
        )
    )
    with TemporaryDirectory() as folder:
        engine = database(Path(folder))
        log = SlateLog(engine, WINDOW_MS)
        position = 0
        while position < len(delivered):
            size = data.draw(st.integers(1, 10))
            batch = delivered[position : position + size]
            position += size
            arrivals = Arrivals(
                slates=[each for each in batch if isinstance(each, ShownSlate)],
                responses=[each for each in batch if isinstance(each, Response)],
            )
            log.record(arrivals, T0)
        counted = log.counts(*ALL_TIME)
        engine.dispose()
    assert counted == tally(slates, responses, WINDOW_MS).buckets


def test_record_of_nothing_that_raises_leaves_nothing_behind(log: SlateLog) -> None:
    broken = response("e", item=None)  # type: ignore[arg-type]
    with pytest.raises(IntegrityError):
        log.record(Arrivals(slates=[shown()], responses=[broken]), T0)
    assert log.counts(*ALL_TIME) == {}


def test_record_takes_more_visitors_than_one_statement_can_bind(log: SlateLog) -> None:
    many = range(2_500)
    log.record(Arrivals(slates=[shown(f"s{n}", user=f"u{n}") for n in many]), T0)
    log.record(Arrivals(responses=[response(f"e{n}", user=f"u{n}") for n in many]), T0)
    assert (_only(log).slates, _only(log).clicked_slates) == (2_500, 2_500)


def a_shadow(user_id: str) -> RecordedSlate:
    shadow = Slate(
        recommendation_id=f"shadow of {user_id}'s",
        user_id=user_id,
        timestamp=T0,
        items=[],
        answered_by="none",
        experiment="calmer",
        variant="new",
        purpose="shadow",
    )
    return recorded(shadow)


def test_rows_of_visitors_come_whole_over_several_pages(
    log: SlateLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.monitoring.repository._ROWS_AT_ONCE", 3)
    slates = [shown(f"s{n}", user="bo" if n % 2 else "ada") for n in range(12)]
    clicks = [response(f"e{n}", user="ada", named="s0") for n in range(5)]
    shadows = [a_shadow("ada"), a_shadow("bo")]
    log.record(Arrivals(slates=slates, shadows=shadows, responses=clicks), T0)
    rows = [(kind, row["user_id"], row.get("event_id")) for kind, row in log.rows_of(["ada", "c"])]
    theirs = [("slate", "ada", None)] * 6 + [("shadow", "ada", None)]
    assert rows == theirs + [("response", "ada", f"e{n}") for n in range(5)]


def test_shadows_are_forgotten_with_slates(log: SlateLog) -> None:
    log.record(Arrivals(shadows=[a_shadow("ada")]), T0)
    for before, left in ((T0, 1), (T0 + 1, 0)):
        log.expire(slates_before=before, pending_before=0, counts_before=0, answers_before=0)
        assert len(list(log.rows_of(["ada"]))) == left


def test_agreed_time_is_the_earlier_of_two_clocks(log: SlateLog) -> None:
    a_day_ahead = now_ms() + DAY_MS
    assert log.agreed_time(a_day_ahead) <= now_ms() < a_day_ahead
    assert log.agreed_time(T0) == T0


def test_expire_forgets_slates_but_not_what_was_counted(log: SlateLog) -> None:
    log.record(
        Arrivals(
            slates=[shown("s1", at=0), shown("s2", at=100)],
            responses=[response("e1", at=50, named="s1")],
        ),
        T0,
    )
    log.expire(slates_before=T0 + 100, pending_before=0, counts_before=0, answers_before=0)
    log.record(
        Arrivals(responses=[response("e2", "b", named="s1"), response("e3", "b", named="s2")]), T0
    )
    assert (_only(log).slates, _only(log).clicked_slates) == (2, 2)


def test_expire_lets_a_response_wait_for_its_slate_only_so_long(log: SlateLog) -> None:
    log.record(Arrivals(responses=[response("early", named="s1")]), T0)
    log.record(Arrivals(responses=[response("later", "b", named="s1")]), T0 + 1_000)
    log.expire(slates_before=0, pending_before=T0 + 1_000, counts_before=0, answers_before=0)
    log.record(Arrivals(slates=[shown("s1")]), T0 + 2_000)
    assert _only(log).clicked_items == 1


def test_expire_drops_counts_of_old_periods(log: SlateLog) -> None:
    log.record(Arrivals(slates=[shown("s1"), shown("s2", at=86_400_000)]), T0)
    log.expire(slates_before=0, pending_before=0, counts_before=T0 + 1, answers_before=0)
    assert _only(log).slates == 1


def test_counts_takes_only_buckets_of_the_period(log: SlateLog) -> None:
    log.record(Arrivals(slates=[shown("s1"), shown("s2", at=600_000)]), T0)
    start = T0 - T0 % 300_000
    assert log.counts(start, start + 600_000) == {
        Bucket(start, "1", "model"): Counts(slates=1, shown=1, items=3)
    }


def test_watermarks_never_go_back(log: SlateLog) -> None:
    log.record(Arrivals(watermarks={"interactions.v1": Watermark(10, 20)}), T0)
    log.record(Arrivals(watermarks={"interactions.v1": Watermark(5, 30)}), T0)
    assert log.watermarks() == {"interactions.v1": Watermark(10, 30)}


def test_latest_model_events_keeps_each_event_once(log: SlateLog) -> None:
    events = [
        ModelEvent(event=ModelEventType.PROMOTED, version=v, timestamp=T0 + int(v))
        for v in ("1", "2", "3")
    ]
    log.record(Arrivals(model_events=events), T0)
    log.record(Arrivals(model_events=[*events, events[0]]), T0)
    assert log.latest_model_events(2) == [events[2], events[1]]
