"""What Feast 0.67's own feature server answered (`record_feast.py`), and what ours answers to the
same requests.
"""

import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from services.features.http import reads
from services.features.reads.feast import Planner
from services.features.settings import FeaturesSettings
from slipstream.chassis.app import create_service
from slipstream.contracts.events import Interaction
from slipstream.contracts.times import now_ms
from slipstream.features import item, visitor
from slipstream.features.item import ItemState
from slipstream.features.views import declare
from slipstream.features.visitor import Covisit, VisitorState

SAMPLES = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).parent / "samples" / "feast").glob("*.json"))
}
ANSWERED = [
    name for name, sample in SAMPLES.items() if "results" in (sample["response"]["body"] or "")
]
# Where Feast's clients make an exception of its own class of the answer.
OF_A_CLASS = [
    name for name, sample in SAMPLES.items() if '"class"' in str(sample["response"]["body"])
]
# What Feast calls a failure of the server is the caller's mistake here.
MISTAKES = {
    "unknown-feature": 400,
    "no-feature": 400,
    "not-a-reference": 400,
    "missing-entity": 400,
    "unequal-lengths": 400,
    "no-rows": 422,
    "no-entities": 422,
}


class Reader:
    """What the recorded server had: v0 to v4 and i0 to i4, of which i4 was last seen in 2001."""

    def __init__(self) -> None:
        now = now_ms()
        events = [
            event(now - 60_001 * step, user, f"i{step}")
            for step in range(1, 5)
            for user in ("v0", "v1", "v2", "v3", "v4")
        ]
        events.append(event(1_000_000_000_000, "v0", "i4"))
        ids = [f"{kind}{number}" for kind in "vi" for number in range(5)]
        self.visitors: dict[str, VisitorState] = {
            one: visitor.fold_all(None, [e for e in events if e.user_id == one])
            for one in ids
            if one[0] == "v"
        }
        self.items: dict[str, ItemState] = {
            one: item.fold_all(
                None,
                [event(1_000_000_000_000, "v0", "i4")] if one == "i4" else [event(now, "v0", one)],
                [Covisit(one, "i9", now)],
            )
            for one in ids
            if one[0] == "i"
        }

    async def states(
        self, users: Sequence[str], items: Sequence[str]
    ) -> tuple[list[VisitorState | None], list[ItemState | None]]:
        return [self.visitors.get(one) for one in users], [self.items.get(one) for one in items]


def event(timestamp: int, user: str, item_id: str) -> Interaction:
    return Interaction(
        event_id=f"{user}-{item_id}-{timestamp}",
        event_type="view",
        user_id=user,
        item_id=item_id,
        timestamp=timestamp,
        received_at=timestamp,
    )


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        registry = declare()
        # No route under test reads the lake or the stream.
        app.state.parts = reads.Parts(
            settings=app.state.settings,
            reader=Reader(),
            lake=None,
            materializer=None,
            registry=registry,
            planner=Planner(registry),
        )
        yield

    app = create_service(
        "features",
        FeaturesSettings(),
        description="",
        lifespan=lifespan,
        routers=[reads.feast_router, reads.health],
    )
    with TestClient(app, raise_server_exceptions=False) as made:
        yield made


def ask(client: TestClient, name: str) -> tuple[Any, dict[str, Any]]:
    """Our answer to a recorded request, and the recorded one."""
    request = SAMPLES[name]["request"]
    body = request["body"]
    answer = (
        client.get(request["path"]) if body is None else client.post(request["path"], json=body)
    )
    return answer, SAMPLES[name]["response"]


def types_of(value: Any) -> Any:
    return (list, {type(one) for one in value}) if isinstance(value, list) else type(value)


@pytest.mark.parametrize("name", ANSWERED)
def test_answers_have_the_recorded_shape(client: TestClient, name: str) -> None:
    answer, recorded = ask(client, name)
    assert (answer.status_code, answer.headers["content-type"]) == (200, recorded["content_type"])
    ours, theirs = answer.json(), recorded["body"]
    assert ours.keys() == theirs.keys()
    assert ours["metadata"].keys() == theirs["metadata"].keys()
    assert ours["metadata"].get("feature_view_metadata") == theirs["metadata"].get(
        "feature_view_metadata"
    )

    our_names, their_names = ours["metadata"]["feature_names"], theirs["metadata"]["feature_names"]
    keys = [key for key in their_names if key in ("user_id", "item_id")]
    asked = SAMPLES[name]["request"]["body"].get("features")
    assert our_names[: len(keys)] == their_names[: len(keys)] == keys
    assert set(our_names) >= set(their_names)  # the service's features are ours to name
    if asked:  # Feast gives them in no certain order, we in the order asked
        assert sorted(our_names) == sorted(their_names)
        assert [one.split("__")[-1] for one in our_names[len(keys) :]] == [
            one.split(":")[1] for one in asked
        ]

    our_results = dict(zip(our_names, ours["results"], strict=True))
    for feature, vector in zip(their_names, theirs["results"], strict=True):
        ours_of_it = our_results[feature]
        assert ours_of_it.keys() == vector.keys()
        assert {len(ours_of_it[key]) for key in vector} == {len(vector[key]) for key in vector}
        if feature in keys:
            assert ours_of_it == vector
            continue
        for value, recorded_value in zip(ours_of_it["values"], vector["values"], strict=True):
            if value is not None and recorded_value is not None:
                assert types_of(value) == types_of(recorded_value)
        for time in ours_of_it["event_timestamps"]:
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", time)
        if name not in ("null", "old"):
            assert ours_of_it["statuses"] == vector["statuses"]
            assert [value is None for value in ours_of_it["values"]] == [
                value is None for value in vector["values"]
            ]


def test_a_value_beyond_its_time_to_live_is_told_apart_where_feast_gives_it_out(
    client: TestClient,
) -> None:
    answer, recorded = ask(client, "old")
    assert recorded["body"]["results"][1]["statuses"] == ["PRESENT"]
    assert answer.json()["results"][1] == {
        "values": [None],
        "statuses": ["OUTSIDE_MAX_AGE"],
        "event_timestamps": ["2001-09-09T01:46:40Z"],
    }
    assert recorded["body"]["results"][1]["event_timestamps"] == ["2001-09-09T01:46:40Z"]


@pytest.mark.parametrize("name", OF_A_CLASS)
def test_refusals_name_the_exception_that_feasts_clients_raise(
    client: TestClient, name: str
) -> None:
    answer, recorded = ask(client, name)
    expected = 400 if recorded["status"] == 500 else recorded["status"]
    assert (answer.status_code, answer.headers["content-type"]) == (
        expected,
        recorded["content_type"],
    )
    told, theirs = json.loads(answer.json()), json.loads(recorded["body"])
    assert (told["module"], told["class"]) == (theirs["module"], theirs["class"])
    assert told["message"] and told["code"]


def test_every_recorded_refusal_is_one_here() -> None:
    refused = {name for name, sample in SAMPLES.items() if sample["response"]["status"] != 200}
    assert refused == {*MISTAKES, *OF_A_CLASS}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_explained(client: TestClient, name: str) -> None:
    answer, _ = ask(client, name)
    assert (answer.status_code, answer.headers["content-type"]) == (
        MISTAKES[name],
        "application/problem+json",
    )
    # Feast's client looks for a JSON string here, and shows the whole text where there is none.
    assert answer.json()["detail"] and answer.json()["code"]


def test_health_answers_without_a_body(client: TestClient) -> None:
    answer, recorded = ask(client, "health")
    assert (answer.status_code, answer.content, recorded["body"]) == (200, b"", None)
