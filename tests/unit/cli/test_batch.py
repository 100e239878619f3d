"""The file of lists: each list is the one that serving would make of the same history."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from slipstream.contracts.events import Interaction
from slipstream.features import visitor
from slipstream.filters.expressions import FilterError
from slipstream.models.base import NEVER
from slipstream.models.repurchases import Repurchases
from slipstream.recommender import stages
from slipstream.recommender.bundle import Bundle, save_bundle
from slipstream_cli.__main__ import cli
from slipstream_cli.batch import (
    EVENTS,
    SCHEMA,
    VisitorHistory,
    events_of_file,
    histories,
    listed,
    write_lists,
)
from tests.unit.serving.fakes import ITEMS, interactions, item_record, small_bundle


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return small_bundle()


def visitors(bundle: Bundle) -> Iterator[VisitorHistory]:
    (events,) = events_of_file(interactions())
    yield from histories(bundle, events)


def test_each_list_is_that_of_a_single_request(bundle: Bundle, tmp_path: Path) -> None:
    out, told = tmp_path / "lists.parquet", list[int]()
    gone = item_record("item-07", available=False)
    allowed = listed(bundle, [gone])
    assert write_lists(out, bundle, "7", visitors(bundle), 5, allowed, told.append) == 60
    assert told == [60]
    table = pq.read_table(out)
    assert table.schema.equals(SCHEMA)
    found: dict[str, list[tuple[int, str, float, str, str]]] = {}
    for row in table.to_pylist():
        user_id, *rest = row.values()
        found.setdefault(user_id, []).append(tuple(rest))
    rows = interactions().to_pylist()
    for user_id, made in found.items():
        history = [
            stages.Event(row["item_id"], row["event_type"], row["timestamp"])
            for row in rows
            if row["user_id"] == user_id
        ]
        due = stages.recommend(bundle, history, 5, allowed=allowed)
        assert made == [
            (rank, each.item_id, np.float32(each.score), each.source, "7")
            for rank, each in enumerate(due, 1)
        ]
    assert len(found) == 60 and "item-07" not in table["item_id"].to_pylist()


def test_a_filter_chooses_items_and_can_not_ask_for_a_visitors_own(bundle: Bundle) -> None:
    entries = [item_record(name, attributes={"price": at}) for at, name in enumerate("ab")]
    entries.append(item_record("item-03", attributes={"price": 5}))
    allowed = listed(bundle, entries, "price > 2")
    assert [bundle.item_ids[place] for place in np.flatnonzero(allowed)] == ["item-03"]
    with pytest.raises(FilterError, match="can't be in a filter for all"):
        listed(bundle, entries, "item_id not in seen")


def test_a_failure_leaves_the_file_as_it_was(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "lists.parquet"
    out.write_text("before")

    def failing() -> Iterator[VisitorHistory]:
        yield next(visitors(bundle))
        raise OSError("the lake is gone")

    with pytest.raises(OSError, match="the lake is gone"):
        write_lists(out, bundle, "7", failing(), 5, listed(bundle, []), lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["lists.parquet"]
    assert out.read_text() == "before"


def test_the_command_makes_lists_of_a_file_by_a_bundle(bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(bundle, tmp_path / "bundle")
    pq.write_table(interactions(), tmp_path / "events.parquet")
    names = "--out lists.parquet --interactions events.parquet --bundle bundle --json report.json"
    words = ["batch-recommend", *names.split(), "--data-dir", str(tmp_path)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        answer = CliRunner().invoke(cli, words)
        assert answer.exit_code == 0, answer.output
        assert "wrote     the lists of 60 visitors to lists.parquet" in answer.output
        refused = CliRunner().invoke(cli, [*words, "--filter", "price <"])
    assert pq.read_metadata(tmp_path / "lists.parquet").num_rows == 600
    assert (refused.exit_code, "invalid syntax" in refused.output) == (1, True), refused.output


Row = tuple[str, str | None, str, int, float | None]

rows = st.lists(
    st.tuples(
        st.sampled_from(["ada", "bob", "üm"]),
        st.sampled_from([*ITEMS[:4], "unknown", None]),
        st.sampled_from(["view", "purchase", "impression", "search"]),
        st.integers(0, 150),
        st.sampled_from([None, 1.5, 2.0]),
    ),
    max_size=250,
)


def as_table(rows: list[Row]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(EVENTS)
    return pa.table(
        [pa.array(list(column), kind) for column, kind in zip(columns, EVENTS.types, strict=True)],
        schema=EVENTS,
    )


@given(rows)
def test_a_history_is_the_sequence_that_the_stream_folds(bundle: Bundle, rows: list[Row]) -> None:
    found = {each.user_id: each for each in histories(bundle, as_table(rows))}
    assert list(found) == sorted({row[0] for row in rows})
    for user_id, each in found.items():
        events = [
            Interaction(
                event_id=str(at), user_id=user, item_id=item, event_type=kind,
                timestamp=when, received_at=when, value=value,
            )
            for at, (user, item, kind, when, value) in enumerate(rows)
            if user == user_id
        ]  # fmt: skip
        sequence = visitor.fold_all(None, events).sequence
        due = stages.list_question(bundle, sequence)
        for column, wanted in zip(each.history, due.history, strict=True):
            np.testing.assert_array_equal(column, wanted)
        assert set(each.excluded.tolist()) == set(due.excluded.tolist())


def test_a_bought_item_rests_where_others_come_again(bundle: Bundle) -> None:
    pause = np.full(len(bundle.item_ids), NEVER)
    learned = replace(bundle, repeats=True, repurchases=Repurchases(pause))
    rows = [("ada", f"item-0{at}", kind, at, None) for at, kind in enumerate(("view", "purchase"))]
    (found,) = histories(learned, as_table(rows))
    assert [bundle.item_ids[item] for item in found.excluded.tolist()] == ["item-01"]


def test_a_file_without_values_has_all_its_events() -> None:
    table = as_table([("ada", "a", "view", 1, None)]).drop_columns(["value"])
    (events,) = events_of_file(table.rename_columns(["user_id", *table.column_names[1:]]))
    assert events.to_pylist() == [
        {"visitor": "ada", "item_id": "a", "event_type": "view", "timestamp": 1, "value": None}
    ]
