"""Windows in SQL: folded once, whole, with nothing left of single visitors."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from services.monitoring.arrivals import Arrivals
from services.monitoring.click_trend import ClickSums
from services.monitoring.item_attributes import ItemCatalogue
from services.monitoring.people.repository import ErasureLedger
from services.monitoring.repository import RecordLog
from services.monitoring.sampling import Sampler
from services.monitoring.slate_tables import samples
from services.monitoring.window_repository import WindowLog
from services.monitoring.windows import fold
from slipstream.contracts.events import ErasedVisitors
from slipstream.contracts.slates import RecordedSlate
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.evaluation.drift_findings import Window
from tests.unit.monitoring.builders import T0, database
from tests.unit.monitoring.recorded_slates import history_of, made_of

START = T0 - T0 % (7 * DAY_MS)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return database(tmp_path)


def sample_into(
    engine: Engine, slates: list[RecordedSlate], sampler: Sampler | None = None
) -> None:
    taking = sampler or Sampler((HOUR_MS,), 1_000, ItemCatalogue())
    found = taking.take(slates)
    RecordLog(engine).record(Arrivals(samples=found), T0)
    taking.keep(found)


def hour(number: int, visitors: int = 3) -> list[RecordedSlate]:
    at = START + number * HOUR_MS
    return [made_of(f"{number}-{n}", at + n, user=f"u{n}") for n in range(visitors)]


def test_fold_takes_each_window_once_and_deletes_its_samples(engine: Engine) -> None:
    log = WindowLog(engine)
    sample_into(engine, [*hour(0), *hour(2)])
    until = START + 3 * HOUR_MS - 1
    folded = log.fold(HOUR_MS, until, 50)
    assert [(it.start, it.visitors, it.catalogue) for it in folded] == [
        (START, 3, 50),
        (START + HOUR_MS, 0, 50),
    ]
    assert log.fold(HOUR_MS, until, 50) == []
    sample_into(engine, hour(1))  # too late
    assert [it.visitors for it in log.fold(HOUR_MS, until + 1, 50)] == [3]
    assert [it.start for it in log.newest(HOUR_MS, 2)] == [START + 2 * HOUR_MS, START + HOUR_MS]
    with engine.connect() as db:
        assert db.execute(select(samples)).all() == []


@settings(max_examples=15)
@given(st.permutations(range(12)), st.integers(1, 11))
def test_fold_is_the_same_in_any_order_of_visitors(order: list[int], cut: int) -> None:
    slates = [
        made_of(f"s{n}", START + n, history_of("abc"[: n % 4], START), user=f"u{n}") for n in order
    ]
    taking = Sampler((HOUR_MS,), 1_000, ItemCatalogue())
    found = []
    for part in (slates[:cut], slates[cut:]):
        taken = taking.take(part)
        taking.keep(taken)
        found += taken
    rows = [(it.visitor, it.share, it.body) for it in found]
    window, same = fold(START, HOUR_MS, rows, None), fold(START, HOUR_MS, sorted(rows), None)
    assert window.visitors == 12
    for name, sketch in same.sketches.items():
        assert dict(window.sketches[name].counts) == pytest.approx(dict(sketch.counts))
    assert window.sketches["history_length"].visitors == 12


def test_fold_says_of_what_version_most_slates_are_and_what_they_show(engine: Engine) -> None:
    at = START
    slates = [
        made_of("1", at, history_of("aab", at), items="ab", user="u1"),
        made_of("2", at, history_of("b", at), items="ab", user="u2"),
        made_of("3", at, items="xy", user="u3", model_version="2"),
    ]
    sample_into(engine, slates)
    (window,) = WindowLog(engine).fold(HOUR_MS, at + HOUR_MS, 4)
    assert window.version == "1"
    assert window.placement.counts == {"home": 3.0}
    assert window.sketches["top_score"].visitors == 2  # of that version only
    assert window.figures["coverage"] == 1.0
    assert window.figures["novelty"] > 0
    (stored,) = WindowLog(engine).newest(HOUR_MS, 1)
    assert stored == window


def test_visitors_of_a_share_stand_for_all(engine: Engine) -> None:
    slates, taking = hour(0, 800), Sampler((HOUR_MS,), 200, ItemCatalogue())
    for first in range(0, 800, 50):
        sample_into(engine, slates[first : first + 50], taking)
    (window,) = WindowLog(engine).fold(HOUR_MS, START + HOUR_MS, None)
    assert window.visitors == pytest.approx(800, rel=0.25)
    assert window.sketches["answered_by"].visitors <= 200


def test_the_first_window_is_no_reference_since_it_began_before(engine: Engine) -> None:
    sample_into(engine, [*hour(0), *hour(1), *hour(2)])
    log = WindowLog(engine)
    _, before, now = log.fold(HOUR_MS, START + 3 * HOUR_MS, None)
    assert log.references(now, 1, HOUR_MS) == {"season": before}
    assert log.references(before, 1, HOUR_MS) == {}


def test_the_first_window_with_a_model_is_no_reference_since_it_began_without(
    engine: Engine,
) -> None:
    log = WindowLog(engine)

    def visited(number: int, version: str | None) -> list[RecordedSlate]:
        at = START + number * HOUR_MS
        return [made_of(f"{number}", at, model_version=version)]

    for number, version in enumerate((None, None, "1", "1", "2")):
        sample_into(engine, visited(number, version))
    *_, without, first, before, now = log.fold(HOUR_MS, START + 5 * HOUR_MS, None)
    assert [it.version for it in (without, first, before, now)] == ["", "1", "1", "2"]
    assert log.references(before, 1, HOUR_MS) == {"season": without}
    assert log.references(now, 1, HOUR_MS) == {"season": before}


def kept(log: WindowLog, days: float, version: str = "1", visitors: float = 500) -> Window:
    window = Window(START + int(days * DAY_MS), HOUR_MS, visitors, version)
    log.add(window)
    return window


def test_references_lie_whole_seasons_back(engine: Engine) -> None:
    log = WindowLog(engine)
    first = kept(log, 0)
    kept(log, 1)
    before, now = kept(log, 14, visitors=499), kept(log, 21)
    season = 7 * DAY_MS
    assert log.references(now, 300, season) == {"season": before, "first": first}
    log.mark_faulty(before)
    assert log.references(now, 300, season) == {"season": first}
    other = kept(log, 28, version="2", visitors=10)
    assert log.references(other, 300, season) == {"season": now}
    assert log.references(other, 501, season) == {}


def test_a_fault_that_lasts_becomes_the_reference(engine: Engine) -> None:
    log = WindowLog(engine)
    before = kept(log, 0)
    faulty = [kept(log, day) for day in range(1, 9)]
    for window in faulty:
        log.mark_faulty(window)
    kept(log, 5.5, visitors=10)  # at night, and not judged
    now = kept(log, 9)
    log.adopt(now, 300, 10 * DAY_MS)
    assert log.references(now, 300, DAY_MS) == {"season": before}
    log.adopt(now, 300, 7 * DAY_MS)
    assert log.references(now, 300, DAY_MS) == {"season": faulty[-1], "first": faulty[0]}


def test_a_day_before_stands_in_for_a_season(engine: Engine) -> None:
    log = WindowLog(engine)
    before, now = kept(log, 1), kept(log, 2)
    assert log.references(now, 300, 7 * DAY_MS) == {}
    assert log.references(now, 300, 7 * DAY_MS, DAY_MS) == {"day": before}


def test_a_window_that_overlaps_a_faulty_one_is_no_reference(engine: Engine) -> None:
    log = WindowLog(engine)
    log.mark_faulty(kept(log, 0))
    log.add(Window(START, 6 * HOUR_MS, 500, "1"))
    now = Window(START + 7 * DAY_MS, 6 * HOUR_MS, 500, "1")
    assert log.references(now, 300, 7 * DAY_MS) == {}


def test_clicks_of_a_period_are_kept_once_also_where_there_were_none(engine: Engine) -> None:
    log, found = WindowLog(engine), {"home": ClickSums(2, 3, 1, 5, 1, 2)}
    log.add_clicks(DAY_MS, START, found)
    log.add_clicks(DAY_MS, START, {"home": ClickSums(9, 9, 9, 9, 9, 9)})
    log.add_clicks(DAY_MS, START + DAY_MS, {})
    assert log.clicks(DAY_MS, START) == {
        (START, "home"): found["home"],
        (START + DAY_MS, ""): ClickSums(),
    }


def test_expire_deletes_what_is_old(engine: Engine) -> None:
    log = WindowLog(engine)
    kept(log, 0)
    newer = kept(log, 2)
    log.add_clicks(DAY_MS, START, {})
    sample_into(engine, hour(0))
    log.expire(before=START + DAY_MS, samples_before=START + 1)
    with engine.connect() as db:
        assert db.execute(select(samples)).all() == []
    assert log.newest(HOUR_MS, 9) == [newer]
    assert log.clicks(DAY_MS, START) == {}


def test_an_erasure_takes_the_samples_of_its_visitors(engine: Engine) -> None:
    sample_into(engine, hour(0))
    slates = RecordLog(engine)
    exported = [(kind, row["user_id"]) for kind, row in slates.rows_of(["u1"])]
    assert exported == [("sample", "u1")]
    told = ErasedVisitors(erasure_id="e", visitor_ids=["u1"], cut={})
    slates.record(Arrivals(erased_visitors=[told]), T0)
    assert ErasureLedger(engine, 0).delete_rows(["e"], T0) == 1
    (window,) = WindowLog(engine).fold(HOUR_MS, START + HOUR_MS, None)
    assert window.visitors == 2
