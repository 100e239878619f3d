"""What a run reads: a lake version, and visitors as they were."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.training.run.dataset import (
    RefusedDataError,
    TooLittleDataError,
    moments,
    read_dataset,
    require,
    validate,
)
from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.events import Interaction
from slipstream.features.visitor import VisitorState, fold_all
from slipstream.models.base import EventWeights
from slipstream.recommender.scripted import ScriptedVisitors
from slipstream.stores.lake import INTERACTIONS, Lake
from tests.unit.training.histories import START_MS, chain, events, write, write_items


def test_read_dataset_empty_lake_says_what_to_do(lake: Lake) -> None:
    with pytest.raises(TooLittleDataError, match="send events"):
        read_dataset(lake)


def test_read_dataset_takes_newest_item_record_and_leaves_out_deleted_and_unmet(lake: Lake) -> None:
    rows = [("v", "a", "view", 1), ("v", "b", "view", 2), ("v", None, "search", 3)]
    write(lake, events([*rows, ("v", "c", "impression", 4)]))
    write_items(
        lake,
        [
            ("a", {"n": 1}, False, 20),
            ("a", {"n": 2}, False, 10),
            ("b", {}, True, 5),
            ("c", {"n": 3}, False, 1),
        ],
    )
    dataset = read_dataset(lake)
    assert dataset.item_ids == ["a"]
    assert dataset.attributes == {"a": {"n": 2}, "c": {"n": 3}}
    assert dataset.signals(EventWeights()).tolist() == [True, False, False, False]
    assert dataset.lake_rows == 4


def test_validate_compares_the_events_with_the_catalogue_of_the_lake(lake: Lake) -> None:
    write(lake, events([("v", item, "view", START_MS) for item in ("a", "b", "c", "c")]))
    write_items(lake, [("a", {}, False, 1), ("b", {}, True, 1)])
    found = {each.check: each for each in validate(read_dataset(lake), START_MS)}
    assert list(found) == ["items_without_entry"]
    assert found["items_without_entry"].figure == (
        "1 of 2 items of the events (50 %) are not in the catalogue, with 2 events: c"
    )


def test_validate_refuses_data_by_which_no_model_can_be_judged(lake: Lake) -> None:
    write(lake, events([("bot", f"i{n % 9}", "view", START_MS + n) for n in range(95)]))
    write(lake, events([(f"v{n}", "i1", "view", START_MS) for n in range(5)], 95))
    with pytest.raises(RefusedDataError, match=r"heavy_visitor.*visitor bot has 95 %.*To do: "):
        validate(read_dataset(lake, exclude_scripted=False), START_MS)


def test_read_dataset_at_a_version_is_what_it_was_and_the_newest_where_it_is_gone(
    lake: Lake,
) -> None:
    first = write(lake, events([("v", "a", "view", 1)]))
    catalog = write_items(lake, [("b", {"n": 1}, False, 1)])
    write(lake, events([("v", "c", "view", 2)], first=1))
    write_items(lake, [("b", {"n": 2}, False, 2), ("d", {}, False, 2)])
    then = read_dataset(lake, first, catalog)
    assert (then.item_ids, then.attributes, then.lake_rows) == (["a"], {"b": {"n": 1}}, 1)
    assert (then.lake_version, then.catalog_version) == (first, catalog)
    assert read_dataset(lake, 99, catalog).item_ids == ["a", "c"]


def test_read_dataset_same_events_in_other_files_have_same_digest(
    lake_settings: LakeSettings,
) -> None:
    whole, parts = Lake(lake_settings, "whole"), Lake(lake_settings, "parts")
    table = chain(visitors=5)
    write(whole, table)
    for begin in reversed(range(0, table.num_rows, 17)):
        write(parts, table.slice(begin, 17))
    assert read_dataset(whole).digest() == read_dataset(parts).digest()
    write(parts, events([("v", "a", "view", 1)], first=999))
    assert read_dataset(whole).digest() != read_dataset(parts).digest()


def with_scripts(bots: int) -> pa.Table:
    """The events of persons, and of scripted visitors who look at one item every 40 s."""
    looks = [
        (f"bot{bot}", "only bots", "view", START_MS + 40_000 * step + 123)
        for bot in range(bots)
        for step in range(60)
    ]
    return pa.concat_tables([chain(), events([*looks, ("bot0", "i1", "impression", 1)], first=999)])


def test_read_dataset_leaves_scripted_visitors_out_and_counts_them(
    lake: Lake, lake_settings: LakeSettings
) -> None:
    persons = Lake(lake_settings, "persons")
    write(persons, chain())
    write(lake, with_scripts(2))
    dataset = read_dataset(lake)
    assert dataset.interactions.equals(read_dataset(persons).interactions)
    assert "only bots" not in dataset.item_ids
    assert len(dataset.interactions) == 360
    assert "received_at" not in dataset.interactions.column_names
    assert dataset.lake_rows == 360 + 2 * 60 + 1  # triggers count what there is
    assert dataset.scripted == ScriptedVisitors(
        2, 120, 120 / 480, {"rate": 0, "breadth": 0, "hours": 0, "regularity": 2}
    )
    whole = read_dataset(lake, exclude_scripted=False)
    assert (len(whole.interactions), whole.scripted.visitors) == (481, 0)


def test_require_says_how_many_scripted_visitors_are_left_out(lake: Lake) -> None:
    write(lake, with_scripts(1))
    dataset = read_dataset(lake)
    with pytest.raises(TooLittleDataError, match=r"\(at least 400\). Left out: 1 visitor with 60 "):
        require(dataset, dataset.signals(EventWeights()), events=400, visitors=2, items=2)


def test_require_names_everything_that_lacks(lake: Lake) -> None:
    write(lake, events([("v", "a", "view", 1), ("v", "a", "view", 2)]))
    dataset = read_dataset(lake)
    with pytest.raises(
        TooLittleDataError,
        match=r"2 events on items \(at least 200\), 1 visitors \(at least 2\), 1 items",
    ):
        require(dataset, dataset.signals(EventWeights()), events=200, visitors=2, items=2)
    require(dataset, dataset.signals(EventWeights()), events=2, visitors=1, items=1)


visitors, items, types = (
    st.sampled_from(["u", "v"]),
    st.sampled_from(["a", "b", None]),
    st.sampled_from(["view", "buy", "search"]),
)
happenings = st.lists(st.tuples(visitors, items, types, st.integers(0, 9)), min_size=1, max_size=30)


@given(rows=happenings, data=st.data())
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_moments_hold_exactly_what_was_before(
    rows: list[tuple[str, str | None, str, int]], data: st.DataObject
) -> None:
    table = events(rows)
    asked = sorted(data.draw(st.sets(st.integers(0, len(rows) - 1), min_size=1)))
    result = list(
        moments(
            table.select(["event_id", "user_id", "item_id", "event_type", "timestamp", "value"]),
            np.array(asked),
        )
    )
    assert len(result) == len(asked)
    everything = [
        Interaction(
            event_id=str(n),
            user_id=user,
            item_id=item,
            event_type=kind,
            timestamp=at,
            received_at=at,
        )
        for n, (user, item, kind, at) in enumerate(rows)
    ]
    expected = [
        fold_all(
            None, [e for e in everything if e.user_id == rows[n][0] and e.timestamp < rows[n][3]]
        )
        for n in asked
    ]
    assert sorted(content(moment.state) for moment in result) == sorted(map(content, expected))


def content(state: VisitorState) -> str:
    return repr((state.sequence, sorted(state.counts.items()), state.first_seen, state.last_seen))


def test_the_latest_events_are_read_and_no_more(lake: Lake) -> None:
    table = chain(visitors=5)
    write(lake, table)
    whole, latest = read_dataset(lake), read_dataset(lake, most_events=7)
    assert latest.interactions.equals(whole.interactions.slice(whole.interactions.num_rows - 7))
    assert latest.lake_rows == whole.lake_rows  # triggers count all


def test_days_before_the_latest_events_are_not_read(lake_settings: LakeSettings) -> None:
    lake = DayReader(lake_settings, "shop")
    for first, day in ((0, "2026-01-01"), (10, "2026-01-02"), (20, "2026-01-03")):
        rows = events([("v", "a", "view", first + number) for number in range(4)], first=first)
        place = rows.schema.get_field_index("received_date")
        write(lake, rows.set_column(place, "received_date", pa.array([day] * 4)))
    assert len(read_dataset(lake, most_events=5).interactions) == 5
    assert len(read_dataset(lake, most_events=12).interactions) == 12
    assert len(read_dataset(lake, most_events=13).interactions) == 12
    assert lake.since == ["2026-01-02", "2026-01-01", None]


class DayReader(Lake):
    """A lake that notes the first day of each reading of interactions."""

    def read(self, table: str, *args: Any, received_since: str | None = None, **more: Any) -> Any:
        if table == INTERACTIONS:
            self.since = [*getattr(self, "since", ()), received_since]
        return super().read(table, *args, received_since=received_since, **more)
