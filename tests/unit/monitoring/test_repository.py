"""Records in SQL: each has its effect once."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from services.monitoring.arrivals import Arrivals, Shadow, Watermark
from services.monitoring.repository import RecordLog
from services.monitoring.sampling import Sample
from slipstream.contracts.events import ModelEvent, ModelEventType, Slate
from slipstream.contracts.times import DAY_MS, now_ms
from tests.unit.monitoring.builders import T0, database, recorded


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return database(tmp_path)


@pytest.fixture
def log(engine: Engine) -> RecordLog:
    return RecordLog(engine)


def a_shadow(user_id: str, number: int = 0) -> Shadow:
    shadow = Slate(
        recommendation_id=f"shadow {number} of {user_id}'s",
        user_id=user_id,
        timestamp=T0,
        items=[],
        answered_by="none",
        experiment="calmer",
        variant="new",
        purpose="shadow",
    )
    return Shadow(recorded(shadow), None)


def test_rows_of_visitors_come_whole_over_several_pages(
    log: RecordLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.monitoring.repository._ROWS_AT_ONCE", 3)
    shadows = [a_shadow("bo" if n % 2 else "ada", n) for n in range(12)]
    sample = Sample(3_600_000, 0, "key", "ada", 1.0, "{}")
    log.record(Arrivals(shadows=shadows, samples=[sample]), T0)
    rows = [(kind, row["user_id"]) for kind, row in log.rows_of(["ada", "c"])]
    assert rows == [("shadow", "ada")] * 6 + [("sample", "ada")]


def test_shadows_are_kept_for_a_time(log: RecordLog) -> None:
    log.record(Arrivals(shadows=[a_shadow("ada")]), T0)
    for before, left in ((T0, 1), (T0 + 1, 0)):
        log.expire(shadows_before=before, answers_before=0)
        assert len(list(log.rows_of(["ada"]))) == left


def test_agreed_time_is_the_earlier_of_two_clocks(log: RecordLog) -> None:
    a_day_ahead = now_ms() + DAY_MS
    assert log.agreed_time(a_day_ahead) <= now_ms() < a_day_ahead
    assert log.agreed_time(T0) == T0


def test_watermarks_never_go_back(log: RecordLog) -> None:
    log.record(Arrivals(watermarks={"interactions.v1": Watermark(10, 20)}), T0)
    log.record(Arrivals(watermarks={"interactions.v1": Watermark(5, 30)}), T0)
    assert log.watermarks() == {"interactions.v1": Watermark(10, 30)}


def test_latest_model_events_keeps_each_event_once(log: RecordLog) -> None:
    events = [
        ModelEvent(event=ModelEventType.PROMOTED, version=v, timestamp=T0 + int(v))
        for v in ("1", "2", "3")
    ]
    log.record(Arrivals(model_events=events), T0)
    log.record(Arrivals(model_events=[*events, events[0]]), T0)
    assert log.model_events(2) == [events[2], events[1]]
