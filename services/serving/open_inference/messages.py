"""Messages of the protocol: tensors to requests, answers to tensors. Knows no HTTP.

Source: https://github.com/kserve/open-inference-protocol. The input is `user_id` (BYTES, one or
more visitors). The outputs are `items` (BYTES) and `scores` (FP32) with a row for each visitor;
short rows end in "" and 0.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from slipstream.chassis.errors import InvalidRequestError
from slipstream.contracts.events import Id
from slipstream.contracts.vocabulary import BATCH, MAX_ID_BYTES, SHOWN
from slipstream.slates.slate_plan import MadeSlate
from slipstream.slates.slate_request import MOST_ITEMS, SlateRequest

NAME: Final = "recommender"
MOST_VISITORS: Final = 64
# Each output's datatype, in the order in which an answer has them.
OUTPUTS: Final = {"items": "BYTES", "scores": "FP32"}
NO_BINARY: Final = "tensors are taken as JSON alone: send `data` (tritonclient: binary_data=False)"
MOST_DIMENSIONS = 32
# Parameters of extensions that change what an answer means, and that this server lacks.
_UNKNOWN = frozenset({"classification", "shared_memory_region"})
# Parameter of a tensor that comes after the JSON.
_SIZE = "binary_data_size"
_IDS: TypeAdapter[list[str]] = TypeAdapter(list[Id])


class Tensor(BaseModel):
    """An input tensor. `data` may be flat or nested."""

    name: Literal["user_id"]
    shape: list[Annotated[int, Field(ge=0)]] = Field(max_length=MOST_DIMENSIONS)
    datatype: Literal["BYTES"]
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class RequestedOutput(BaseModel):
    """The name of a wanted output. A request without any gets all."""

    name: Literal["items", "scores"]
    parameters: dict[str, Any] | None = None


class InferenceParameters(BaseModel):
    """Number of items for each visitor, and whether visitors see them, which makes impressions.

    Other parameters change nothing: a client that asks for `binary_data_output` gets JSON.
    """

    n: int = Field(10, ge=1, le=MOST_ITEMS, strict=True)
    shown: bool = Field(False, strict=True)


class InferenceRequest(BaseModel):
    """An inference request. Some clients send null for no parameters."""

    id: str = Field("", max_length=1_024)  # given back as it came
    parameters: InferenceParameters | None = None
    inputs: list[Tensor] = Field(min_length=1, max_length=1)
    outputs: list[RequestedOutput] = Field(default_factory=list, max_length=len(OUTPUTS))


class InferenceError(BaseModel):
    """The body of an error below `/v2`."""

    error: str


class ServerMetadata(BaseModel):
    """The server's name, version and extensions of the protocol."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(BaseModel):
    """Whether the server takes requests."""

    live: bool


class ServerReady(BaseModel):
    """Whether a model is loaded."""

    ready: bool


class ModelReady(BaseModel):
    """Whether a model is in service."""

    name: str
    ready: bool


class TensorMetadata(BaseModel):
    """An input or output of a model; -1 is a dimension of any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """A model's versions, inputs and outputs."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class OutputTensor(BaseModel):
    """An output, flat and row by row."""

    name: str
    datatype: str
    shape: list[int]
    data: list[str] | list[float]


class InferenceResponse(BaseModel):
    """The recommendations as tensors. `parameters` has the answering step and the recommendation
    id of each visitor, separated by commas.
    """

    model_name: str
    model_version: str
    id: str
    parameters: dict[str, Any]
    outputs: list[OutputTensor]


def metadata(version: str | None) -> ModelMetadata:
    """The model's metadata: its versions, inputs and outputs."""
    return ModelMetadata(
        name=NAME,
        versions=[version] if version else [],
        platform="slipstream_bundle",
        inputs=[TensorMetadata(name="user_id", datatype="BYTES", shape=[-1])],
        outputs=[
            TensorMetadata(name=name, datatype=datatype, shape=[-1, -1])
            for name, datatype in OUTPUTS.items()
        ],
    )


def read(body: bytes) -> InferenceRequest:
    """The inference request in a body.

    Raises `InvalidRequestError`. What the tensor holds is not looked at, see `requests`.
    """
    try:
        inference = InferenceRequest.model_validate(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(f"the request is not JSON: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidRequestError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    tensors: list[Tensor | RequestedOutput] = [*inference.inputs, *inference.outputs]
    for one in tensors:
        if unknown := sorted(_UNKNOWN & (one.parameters or {}).keys()):
            raise InvalidRequestError(f"{one.name!r}: there is no parameter {unknown[0]!r} here")
    if any(one.data is None or _SIZE in (one.parameters or {}) for one in inference.inputs):
        raise InvalidRequestError(NO_BINARY)
    return inference


def requests(inference: InferenceRequest) -> list[SlateRequest]:
    """A request for each visitor. Raises `InvalidRequestError` for values that are no ids."""
    (tensor,), asked = inference.inputs, inference.parameters or InferenceParameters()
    visitors = _flat(tensor.data or [])
    if not visitors or math.prod(tensor.shape) != len(visitors):
        raise InvalidRequestError(
            f"'user_id' has shape {tensor.shape} and {len(visitors)} values; "
            f"1 to {MOST_VISITORS} are taken"
        )
    try:
        visitors = _IDS.validate_python(visitors, strict=True)
    except ValidationError as error:
        raise InvalidRequestError(
            f"a value of 'user_id' is a string of 1 to {MAX_ID_BYTES} bytes without NUL"
        ) from error
    purpose = SHOWN if asked.shown else BATCH
    return [
        SlateRequest(n=asked.n, user_id=visitor, placement="inference", purpose=purpose)
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
    data: dict[str, list[Any]] = {"items": [], "scores": []}
    for answer in answers:
        short = width - len(answer.items)
        data["items"] += [*(one.item_id for one in answer.items), *[""] * short]
        data["scores"] += [*(one.score for one in answer.items), *[0.0] * short]
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
