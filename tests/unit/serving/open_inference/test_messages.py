import json
from typing import Any

import pytest

from services.serving.open_inference import messages
from slipstream.chassis.errors import InvalidRequestError
from slipstream.slates.arranging.policies import CompiledPolicy
from slipstream.slates.catalogue.columns import Columns
from slipstream.slates.participation import DEFAULT
from slipstream.slates.slate_plan import MadeSlate, SlatePlan
from slipstream.slates.slate_request import Item, SlateRequest, Step


def a_body(*visitors: Any, **changes: Any) -> dict[str, Any]:
    tensor = {
        "name": "user_id",
        "shape": [len(visitors)],
        "datatype": "BYTES",
        "data": list(visitors),
    }
    return {"id": "42", "inputs": [tensor | changes.pop("tensor", {})], **changes}


def read(body: dict[str, Any]) -> messages.InferenceRequest:
    return messages.read(json.dumps(body).encode())


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


def an_answer(*items: Item) -> MadeSlate:
    plan = SlatePlan.of(
        SlateRequest(user_id="ada"), None, CompiledPolicy.of(DEFAULT), Columns(), 1, "r-1"
    )
    return MadeSlate(plan, list(items), answered_by=Step.MODEL, model_version="7")


def test_each_visitor_of_the_tensor_is_a_request() -> None:
    asked = messages.requests(read(a_body("ada", "bob", parameters={"n": 3})))
    assert [(one.user_id, one.n) for one in asked] == [("ada", 3), ("bob", 3)]
    assert {one.purpose for one in asked} == {"batch"}


def test_lists_that_a_visitor_sees_are_marked_by_the_caller() -> None:
    asked = messages.requests(read(a_body("ada", parameters={"shown": True})))
    assert asked[0].purpose == "shown"


def test_nested_data_is_read_row_by_row() -> None:
    asked = read(a_body("ada", "bob", tensor={"shape": [2, 1], "data": [["ada"], ["bob"]]}))
    assert [one.user_id for one in messages.requests(asked)] == ["ada", "bob"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"inputs": []},
        a_body(),
        a_body(1),
        a_body(""),
        a_body("x" * 257),
        a_body("a\0"),
        a_body("ada", tensor={"shape": [-1, -1]}),
        a_body("ada", tensor={"data": None}),
        a_body("ada", tensor={"parameters": {"binary_data_size": 0}}),
        a_body("ada", tensor={"parameters": {"shared_memory_region": "a"}}),
        a_body("ada", outputs=[{"name": "scores", "parameters": {"classification": 2}}]),
        a_body("\ud800"),
        a_body("ada", id="\ud800"),
        a_body(nested(900)),
        a_body(tensor={"shape": [0], "data": [[], []]}),
        a_body("ada", tensor={"shape": [2]}),
        a_body("ada", tensor={"datatype": "INT32"}),
        a_body("ada", tensor={"name": "visitor"}),
        a_body("ada", parameters={"n": 0}),
        a_body("ada", parameters={"n": "3"}),
        a_body("ada", parameters={"shown": 1}),
        a_body("ada", outputs=[{"name": "embedding"}]),
        a_body(*["ada"] * 65),
    ],
)
def test_tensors_that_the_model_does_not_take_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        messages.requests(read(body))


class Uncounted(list[Any]):
    """A list that fails a test which walks over it."""

    def __iter__(self) -> Any:
        raise AssertionError("walked over values that are too many")


@pytest.mark.parametrize(
    "data", [["ada"] * 65, [["ada"] * 32, Uncounted(["ada"] * 33)], [Uncounted("x" * 1_000_000)]]
)
def test_values_are_counted_before_they_are_flattened(data: list[Any]) -> None:
    inference = read(a_body("ada", tensor={"shape": [65]}))
    inference.inputs[0].data = data
    with pytest.raises(InvalidRequestError, match="more than 64 values"):
        messages.requests(inference)


def test_a_deep_list_beside_many_values_is_refused_at_once() -> None:
    """Flattening all of it, level by level, takes minutes."""
    body = a_body(tensor={"shape": [1], "data": [nested(900), *["ada"] * 1_000_000]})
    with pytest.raises(InvalidRequestError, match="more than 64 values"):
        messages.requests(read(body))


@pytest.mark.parametrize("name", ["inputs", "outputs"])
def test_only_the_first_tensors_of_many_are_looked_at(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="at most"):
        read({**a_body("ada"), name: [{}] * 1_000_000})


def test_short_rows_are_filled_up_so_that_the_tensor_is_rectangular() -> None:
    asked = read(a_body("ada", "bob"))
    answers = [
        an_answer(Item("a", 0.5, "ease"), Item("b", 0.25, "ease")),
        an_answer(Item("c", 0.75, "ease")),
    ]
    items, scores = messages.response(asked, answers, "7")["outputs"]
    assert (items["shape"], items["data"]) == ([2, 2], ["a", "b", "c", ""])
    assert (scores["datatype"], scores["data"]) == ("FP32", [0.5, 0.25, 0.75, 0.0])


def test_only_the_outputs_that_are_asked_for_are_given() -> None:
    asked = read(a_body("ada", outputs=[{"name": "items"}]))
    body = messages.response(asked, [an_answer()], None)
    assert [output["name"] for output in body["outputs"]] == ["items"]
    assert (body["id"], body["model_version"]) == ("42", "none")
