"""Logs of sampled slates: responses count for the slate that they follow from, once."""

import random
from collections.abc import Sequence
from typing import Any

import orjson
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from services.features.history.logged_slates import (
    NAMED_MS,
    UNNAMED_MS,
    LogQuery,
    Outcomes,
    logged_slates,
)
from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.rest import LoggedSlate, LoggedSlates
from slipstream.contracts.slates import new_recommendation_id
from slipstream.contracts.times import now_ms
from slipstream.stores.lake import INTERACTIONS, RECOMMENDATIONS, SCHEMAS, Lake
from slipstream.stores.lake_reader import day_of
from tests.unit.stores.lake_rows import rows

NOW = now_ms()


def slate(slate_id: str, at: int, *items: str, user: str = "ada") -> dict[str, Any]:
    return {
        "recommendation_id": slate_id,
        "user_id": user,
        "timestamp": at,
        "items": [{"item_id": each, "score": 1.0, "source": "ease"} for each in items],
    }


def event(at: int, item: str = "a", **values: Any) -> dict[str, Any]:
    known = {"event_type": "view", "user_id": "ada", "value": None, "properties": "{}"}
    known |= {"event_id": f"{at} {item}", "recommendation_id": None}
    return known | {"timestamp": at, "item_id": item} | values


def clicks(slates: Sequence[dict[str, Any]], *events: dict[str, Any]) -> dict[str, set[int]]:
    outcomes = Outcomes(list(slates))
    for each in events:
        outcomes.take(each)
    return {slate_id: found.clicked for slate_id, found in outcomes.of.items()}


def test_a_response_counts_for_the_slate_that_it_names_else_for_the_last_that_shows_its_item() -> (
    None
):
    slates = [slate("r1", 0, "a", "b"), slate("r2", 1_000, "b"), slate("r3", 500, "a", user="bob")]
    assert clicks(slates, event(2_000, "b")) == {"r1": set(), "r2": {0}, "r3": set()}
    assert clicks(slates, event(2_000, "b", recommendation_id="r1"))["r1"] == {1}
    # A page's own visitor, and a named slate whoever the visitor is by now.
    assert clicks(slates, event(900, user_id="ada~unproven"))["r1"] == {0}
    assert clicks(slates, event(900, user_id="known", recommendation_id="r1"))["r1"] == {0}


def test_no_response_counts_before_the_slate_too_late_or_for_another_item() -> None:
    slates = [slate("r1", 10, "a", "b")]
    for each in (
        event(9),
        event(11 + UNNAMED_MS),
        event(9, recommendation_id="r1"),
        event(11 + NAMED_MS, recommendation_id="r1"),
        event(20, "c", recommendation_id="r1"),
        event(20, user_id="bob"),
    ):
        assert clicks(slates, each) == {"r1": set()}
    assert clicks(slates, event(10 + UNNAMED_MS))["r1"] == {0}
    assert clicks(slates, event(10 + NAMED_MS, recommendation_id="r1"))["r1"] == {0}


@given(
    st.lists(
        st.tuples(
            st.integers(0, 20),
            st.sampled_from("abc"),
            st.sampled_from([None, "r1", "r2", "gone"]),
            st.sampled_from(["view", "purchase"]),
        ),
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
def test_outcomes_depend_on_no_order_and_on_no_repeat(
    events: list[tuple[int, str, str | None, str]], chance: random.Random
) -> None:
    slates = [slate("r1", 3, "a", "b"), slate("r2", 9, "c", "a")]
    taken = [
        event(at, item, recommendation_id=named, event_type=kind, value=2.0, event_id=f"{number}")
        for number, (at, item, named, kind) in enumerate(events)
    ]
    once, again = Outcomes(slates), Outcomes(slates)
    for each in taken:
        once.take(each)
    repeated = taken + taken
    chance.shuffle(repeated)
    for each in repeated:
        again.take(each)
    for slate_id, outcome in once.of.items():
        assert outcome.clicked == again.of[slate_id].clicked
        assert sorted(outcome.revenue) == sorted(again.of[slate_id].revenue)


def test_a_log_has_the_sampled_slates_of_a_placement_and_period_with_what_followed(
    lake_settings: LakeSettings,
) -> None:
    lake = Lake(lake_settings, "ns")
    wanted = LogQuery("home", NOW - 1_000, NOW + 1_000)
    (numbers,) = map(orjson.loads, logged_slates(lake, wanted))
    assert numbers == {"slates": 0, "sampled": 0, "given": 0}

    def row(placement: str = "home", at: int = NOW, **values: Any) -> dict[str, Any]:
        made = slate(new_recommendation_id(at), at, "a", "b") | {"placement": placement}
        made |= {"answered_by": "model", "received_date": day_of(at), "sampled": True}
        return made | {"propensities": [0.6, 0.5], "purpose": "shown", "variant": "x"} | values

    slates = [
        row(),
        row(at=NOW + 1, circumstances='{"form": 1}'),
        row("cart"),
        row(at=NOW + 1_000),
        row(purpose="shadow"),
        row(sampled=None),
    ]
    lake.append(RECOMMENDATIONS, pa.Table.from_pylist(slates, SCHEMAS[RECOMMENDATIONS]), {})
    later = {"user_id": "ada", "timestamp": NOW + 10, "received_at": NOW, "date": day_of(NOW)}
    buying = later | {"event_type": "purchase", "value": 9.5, "item_id": "b"}
    named = slates[0]["recommendation_id"]
    for table in (
        rows("e1", **later, item_id="a"),
        rows("e2", **buying, recommendation_id=named, properties='{"currency": "eur"}'),
        rows("e3", **later | {"event_type": "impression"}, item_id="b"),
        rows("e4", **later),
        rows("e5", **buying | {"value": 1e300}, recommendation_id=named),
    ):
        lake.append(INTERACTIONS, table, {})
    first, *lines = logged_slates(lake, wanted)
    # As serving reads them.
    assert LoggedSlates.model_validate_json(first).given == 2
    assert LoggedSlate.model_validate_json(lines[0]).revenue == [(1, 9.5, "EUR")]
    numbers, *found = map(orjson.loads, (first, *lines))
    assert numbers == {"slates": 3, "sampled": 2, "given": 2}
    assert [each["timestamp"] for each in found] == [NOW, NOW + 1]
    assert (found[0]["clicked"], found[0]["revenue"]) == ([1], [[1, 9.5, "EUR"]])
    assert (found[1]["clicked"], found[1]["propensities"]) == ([0], [0.6, 0.5])
    assert found[1]["circumstances"] == {"form": 1}
    fewer, _ = map(orjson.loads, logged_slates(lake, wanted._replace(most=1)))
    assert fewer == {"slates": 3, "sampled": 2, "given": 1}
    assert len(list(logged_slates(lake, wanted._replace(variant="y")))) == 1
