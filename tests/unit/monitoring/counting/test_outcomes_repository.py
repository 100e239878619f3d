"""Sums are read by the longest parts of a period, and what is kept of persons can be erased."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from services.monitoring.counting.credit import BUCKET_MS, Period
from services.monitoring.counting.outcomes_repository import (
    OutcomeTable,
    Progress,
    kept_since,
    tiles,
)
from services.monitoring.counting.tables import credits, outcomes
from services.monitoring.people.repository import ErasureLedger
from slipstream.contracts.late_records import ErasureMark, visitor_digest
from slipstream.contracts.times import DAY_MS, HOUR_MS
from tests.unit.monitoring.builders import database
from tests.unit.monitoring.counting.shop_lake import T0, event, slate
from tests.unit.monitoring.counting.test_credit import count


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_the_parts_of_a_period_cover_it_once_with_the_longest_lengths(one: int, other: int) -> None:
    since, until = sorted((T0 + one * BUCKET_MS, T0 + other * BUCKET_MS))
    found = list(tiles(since, until))
    assert [end for _, _, end in found[:-1]] == [begin for _, begin, _ in found[1:]]
    if found:
        assert (found[0][1], found[-1][2]) == (since, until)
    for length, begin, end in found:
        assert begin % length == end % length == 0
        longer = {BUCKET_MS: HOUR_MS, HOUR_MS: DAY_MS}.get(length)
        if longer:
            assert -(-begin // longer) * longer + longer > end


@pytest.mark.parametrize(
    ("ago", "length"), [(HOUR_MS, BUCKET_MS), (5 * DAY_MS, HOUR_MS), (40 * DAY_MS, DAY_MS)]
)
def test_a_period_begins_with_sums_that_are_still_kept(ago: int, length: int) -> None:
    since = kept_since(T0 + 7 * BUCKET_MS - ago, T0 + 7 * BUCKET_MS)
    assert since % length == 0
    assert 0 <= T0 + 7 * BUCKET_MS - ago - since < length


def test_erased_visitors_are_gone_and_others_are_exported(tmp_path: Path) -> None:
    engine = database(tmp_path)
    table = OutcomeTable(engine, lambda _: {})
    found = count(
        [slate("u", 0, "a"), slate("v", 0, "a", 1)],
        [event("c", "click", "u", "a", 1_000), event("d", "click", "v", "a", 1_000)],
    )
    assert table.replace(Period(T0, T0 + BUCKET_MS), found) == set()
    table.merge([("v", "person"), ("v", "second word")])
    assert table.persons(pa.array(["person"])) == {"v": "person"}
    assert [(kind, row.get("event_id")) for kind, row in table.rows_of(["u", "v"])] == [
        ("credit", "c"),
        ("credit", "d"),
        ("identity", None),
    ]
    ledger = ErasureLedger(engine, 0)
    with engine.begin() as db:
        values = {"erasure_id": "e", "visitor_id": "v"}
        db.exec_driver_sql(
            "INSERT INTO monitoring_erasure_visitors VALUES (:erasure_id, :visitor_id)", values
        )
    ledger.delete_rows(["e"], 1)
    assert [row["user_id"] for _, row in table.rows_of(["u", "v", "person"])] == ["u"]


def test_who_is_erased_is_not_kept_again_by_a_later_count(tmp_path: Path) -> None:
    marks = {visitor_digest("u"): ErasureMark(T0 + 5_000, T0 + 5_000)}
    table = OutcomeTable(database(tmp_path), lambda _: marks)
    found = count(
        [slate("u", 0, "ab")],
        [event("before", "click", "u", "a", 5_000), event("since", "click", "u", "b", 5_001)],
    )
    table.replace(Period(T0, T0 + BUCKET_MS), found)
    table.merge([("u", "person"), ("w", "person")])
    assert [row.get("event_id") for _, row in table.rows_of(["u"])] == ["since"]
    assert table.persons(pa.array(["person"])) == {"w": "person"}


def test_what_is_past_its_retention_goes(tmp_path: Path) -> None:
    engine = database(tmp_path)
    table = OutcomeTable(engine, lambda _: {})
    found = count([slate("u", 0, "a")], [event("c", "click", "u", "a", 1_000)])
    table.replace(Period(T0, T0 + BUCKET_MS), found)
    lengths = select(outcomes.c.length_ms).distinct()
    kept: list[tuple[int, set[int], int]] = []
    for days in (0, 10, 33, 100):
        table.expire(T0 + days * DAY_MS, 30 * DAY_MS, 90 * DAY_MS)
        with engine.connect() as db:
            left = len(db.execute(select(credits)).all())
            kept.append((days, set(db.scalars(lengths)), left))
    assert kept == [
        (0, {BUCKET_MS, HOUR_MS, DAY_MS}, 1),
        (10, {HOUR_MS, DAY_MS}, 1),
        (33, {DAY_MS}, 1),
        (100, set(), 0),
    ]


def test_progress_and_the_key_of_hashes_are_kept(tmp_path: Path) -> None:
    table = OutcomeTable(database(tmp_path), lambda _: {})
    assert table.progress("interactions") == Progress()
    table.advance({"interactions": Progress(3, {"t:0": 7}, 2)})
    assert table.progress("interactions") == Progress(3, {"t:0": 7}, 2)
    assert table.left_out(["interactions"]) == {"interactions": 2}
    assert table.hash_key() == table.hash_key() != ""
