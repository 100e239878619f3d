"""The file of lists: each list is the one that serving would make of the same history."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from slipstream.filters.expressions import FilterError
from slipstream.recommender import stages
from slipstream.recommender.bundle import Bundle, save_bundle
from slipstream_cli.__main__ import cli
from slipstream_cli.batch.availability import listed
from slipstream_cli.batch.histories import VisitorHistory, events_of_file, histories
from slipstream_cli.batch.lists import SCHEMA, write_lists
from tests.unit.serving.fakes import interactions, item_record, small_bundle


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
