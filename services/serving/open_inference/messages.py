"""Messages of the protocol: tensors to requests, answers to tensors. Knows no HTTP.

Source: https://github.com/kserve/open-inference-protocol. The input is `user_id` (BYTES, one or
more visitors). The outputs are `items` (BYTES) and `scores` (FP32) with a row for each visitor;
short rows end in "" and 0.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from services.serving.open_inference import binary
from services.serving.open_inference.descriptions import MOST_VISITORS, NAME, OUTPUTS
from slipstream.chassis.errors import InvalidRequestError
from slipstream.contracts.events import Id
from slipstream.contracts.vocabulary import BATCH, MAX_ID_BYTES, SHOWN
from slipstream.slates.slate_plan import MadeSlate
from slipstream.slates.slate_request import MOST_ITEMS, SlateRequest

MOST_DIMENSIONS = 32
# Inputs and outputs in a request's lists. There are one and two; more than these are not looked at.
MOST_TENSORS = 8
# Parameters of extensions that change what an answer means, and that this server lacks.
_UNKNOWN = frozenset({"classification", "shared_memory_region"})

_ID: TypeAdapter[str] = TypeAdapter(Id)
# Some clients send null for none.
Parameters = dict[str, Any] | None


class Tensor(BaseModel):
    """An input tensor. `data` may be flat or nested; without it the values come after the JSON."""

    name: str
    shape: list[Annotated[int, Field(ge=0)]] = Field(max_length=MOST_DIMENSIONS)
    datatype: str
    data: list[Any] | None = None
    parameters: Parameters = None


class RequestedOutput(BaseModel):
    """The name of a wanted output. A request without any gets all."""

    name: str
    parameters: Parameters = None


class InferenceRequest(BaseModel):
    """An inference request.

    `parameters.n` is the number of items for each visitor (10). With `parameters.shown` the lists
    count as impressions.
    """

    id: str = Field("", max_length=1_024)  # given back as it came
    parameters: Parameters = None
    inputs: list[Tensor] = Field(max_length=MOST_TENSORS)
    outputs: list[RequestedOutput] = Field(default_factory=list, max_length=MOST_TENSORS)


def read(body: bytes, json_length: str | None = None) -> InferenceRequest:
    """The inference request in a body.

    Args:
        body: JSON, and the bytes of tensors after it.
        json_length: The header `Inference-Header-Content-Length`; without it all is JSON.

    Raises:
        InvalidRequestError: It is none. What the tensors hold is not looked at, see `requests`.
    """
    head, tail = binary.split(body, json_length)
    try:
        fields = orjson.loads(head)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(
            f"the request is not JSON: {error}; tensors after it need {binary.JSON_LENGTH}"
        ) from error
    return parse(fields, tail)


def parse(fields: Any, tail: bytes = b"") -> InferenceRequest:
    """The inference request of these fields, and of the bytes after them.

    Raises `InvalidRequestError`.
    """
    try:
        inference = InferenceRequest.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidRequestError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    tensors: list[Tensor | RequestedOutput] = [*inference.inputs, *inference.outputs]
    for one in tensors:
        if unknown := sorted(_UNKNOWN & (one.parameters or {}).keys()):
            raise InvalidRequestError(f"{one.name!r}: there is no parameter {unknown[0]!r} here")
    _take_binary(inference, tail)
    return inference


def _take_binary(inference: InferenceRequest, tail: bytes) -> None:
    """Give each input that has none its data from the bytes after the JSON."""
    announced = {
        place: (one.parameters or {})[binary.SIZE]
        for place, one in enumerate(inference.inputs)
        if binary.SIZE in (one.parameters or {})
    }
    found = binary.portions(list(announced.values()), tail)
    for place, one in enumerate(inference.inputs):
        if (one.data is None) != (place in announced):
            raise InvalidRequestError(f"{one.name!r} has either data or {binary.SIZE}")
    for place, data in zip(announced, found, strict=True):
        if inference.inputs[place].datatype == "BYTES":
            inference.inputs[place].data = binary.decode_strings(data, MOST_VISITORS)


def requests(inference: InferenceRequest) -> list[SlateRequest]:
    """A request for each visitor.

    Raises:
        InvalidRequestError: The tensors are not as `metadata` says.
    """
    tensor = next((one for one in inference.inputs if one.name == "user_id"), None)
    if tensor is None or len(inference.inputs) != 1 or tensor.datatype != "BYTES":
        raise InvalidRequestError("send one input: 'user_id', of datatype BYTES")
    visitors = _flat(tensor.data or [])
    if not visitors or math.prod(tensor.shape) != len(visitors):
        raise InvalidRequestError(
            f"'user_id' has shape {tensor.shape} and {len(visitors)} values; "
            f"1 to {MOST_VISITORS} are taken"
        )
    if not all(_is_id(one) for one in visitors):
        raise InvalidRequestError(
            f"a value of 'user_id' is a string of 1 to {MAX_ID_BYTES} bytes without NUL"
        )
    n = (inference.parameters or {}).get("n", 10)
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= MOST_ITEMS:
        raise InvalidRequestError(f"parameters.n is an integer from 1 to {MOST_ITEMS}")
    if unknown := {one.name for one in inference.outputs} - OUTPUTS.keys():
        raise InvalidRequestError(
            f"there is no output {sorted(unknown)[0]!r}; there are 'items' and 'scores'"
        )
    shown = (inference.parameters or {}).get("shown", False)
    if not isinstance(shown, bool):
        raise InvalidRequestError("parameters.shown is true or false")
    purpose = SHOWN if shown else BATCH
    return [
        SlateRequest(n=n, user_id=visitor, placement="inference", purpose=purpose)
        for visitor in visitors
    ]


def response(
    inference: InferenceRequest, answers: Sequence[MadeSlate], version: str | None
) -> dict[str, Any]:
    """The answers as tensors, in the order of the visitors.

    `parameters` name the answering step and the recommendation id of each.
    """
    width = max(len(answer.items) for answer in answers)
    shape = [len(answers), width]
    items = [
        item_id
        for answer in answers
        for item_id in _padded([one.item_id for one in answer.items], width, "")
    ]
    scores = [
        score
        for answer in answers
        for score in _padded([one.score for one in answer.items], width, 0.0)
    ]
    data = {"items": items, "scores": scores}
    wanted = {one.name for one in inference.outputs} or OUTPUTS.keys()
    return {
        "model_name": NAME,
        "model_version": version or "none",
        "id": inference.id,
        "parameters": {
            "answered_by": ",".join(answer.answered_by for answer in answers),
            "recommendation_id": ",".join(answer.recommendation_id for answer in answers),
        },
        "outputs": [
            {"name": name, "datatype": datatype, "shape": shape, "data": data[name]}
            for name, datatype in OUTPUTS.items()
            if name in wanted
        ],
    }


def in_binary(inference: InferenceRequest) -> set[str]:
    """Names of the wanted outputs that are to come after the JSON of the answer."""
    of_all = (inference.parameters or {}).get("binary_data_output") is True
    asked = {one.name: (one.parameters or {}).get("binary_data") for one in inference.outputs}
    return {
        name
        for name in asked or OUTPUTS
        if (of_all if asked.get(name) is None else asked[name] is True)
    }


def _is_id(value: Any) -> bool:
    try:
        _ID.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def _flat(data: Sequence[Any]) -> Sequence[Any]:
    """The values of nested lists, level by level: a body may be nested deeper than calls may be.

    Each level is counted before it is made.
    """
    for _ in range(MOST_DIMENSIONS):
        size = sum(len(one) if isinstance(one, list) else 1 for one in data[: MOST_VISITORS + 1])
        if max(size, len(data)) > MOST_VISITORS:
            raise InvalidRequestError(f"'user_id' has more than {MOST_VISITORS} values")
        if not any(isinstance(one, list) for one in data):
            return data
        data = [value for one in data for value in (one if isinstance(one, list) else (one,))]
    raise InvalidRequestError(f"'user_id' is nested in more than {MOST_DIMENSIONS} lists")


def _padded(row: list[Any], width: int, filler: Any) -> list[Any]:
    return row + [filler] * (width - len(row))
