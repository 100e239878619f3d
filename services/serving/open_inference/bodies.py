"""Bodies of the Open Inference Protocol's answers, as the OpenAPI document has them.

Source: https://github.com/kserve/open-inference-protocol, and the extensions in
https://github.com/triton-inference-server/server.
"""

from typing import Any, Literal

from pydantic import BaseModel

from services.serving.open_inference.messages import InferenceRequest
from slipstream.chassis.bodies import body_schema


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


class ConfiguredTensor(BaseModel):
    """An input or output in Triton's `ModelConfig`; -1 is a dimension of any size."""

    name: str
    data_type: str
    dims: list[int]


class ConfiguredVersions(BaseModel):
    """The versions in service."""

    versions: list[str]


class VersionPolicy(BaseModel):
    """Triton's choice of versions."""

    specific: ConfiguredVersions


class ConfiguredParameter(BaseModel):
    """A parameter's value, as text."""

    string_value: str


class ModelConfiguration(BaseModel):
    """The fields of Triton's `ModelConfig` that a recommender has."""

    name: str
    platform: str
    backend: str
    version_policy: VersionPolicy
    max_batch_size: int
    input: list[ConfiguredTensor]
    output: list[ConfiguredTensor]
    parameters: dict[str, ConfiguredParameter]


class IndexedModel(BaseModel):
    """A model of the repository; `reason` says why it is not ready."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


class IndexRequest(BaseModel):
    """With `ready`, only models that are ready are listed."""

    ready: bool = False


class InferenceDuration(BaseModel):
    """A number of requests, and the nanoseconds that they took together."""

    count: int
    ns: int


class InferenceDurations(BaseModel):
    """Durations by outcome and by stage."""

    success: InferenceDuration
    fail: InferenceDuration
    queue: InferenceDuration
    compute_input: InferenceDuration
    compute_infer: InferenceDuration
    compute_output: InferenceDuration
    cache_hit: InferenceDuration
    cache_miss: InferenceDuration


class BatchDurations(BaseModel):
    """Durations of the requests with `batch_size` visitors."""

    batch_size: int
    compute_input: InferenceDuration
    compute_infer: InferenceDuration
    compute_output: InferenceDuration


class VersionStatistics(BaseModel):
    """Statistics of one version since this process began. `last_inference` is in ms."""

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: InferenceDurations
    batch_stats: list[BatchDurations]


class ModelStatistics(BaseModel):
    """Statistics by version."""

    model_stats: list[VersionStatistics]


class OutputTensor(BaseModel):
    """An output, flat and row by row. One in binary form has no `data`, but its size as
    `parameters.binary_data_size`.
    """

    name: str
    datatype: str
    shape: list[int]
    data: list[str] | list[float] | None = None
    parameters: dict[str, Any] | None = None


class InferenceResponse(BaseModel):
    """The recommendations as tensors. `parameters` has the answering step and the recommendation
    id of each visitor, separated by commas.
    """

    model_name: str
    model_version: str
    id: str
    parameters: dict[str, Any]
    outputs: list[OutputTensor]


def answered_by(model: Any, *statuses: int) -> dict[str, Any]:
    """Arguments of a route that answers with this body, with status 200 and with these."""
    return {"responses": {status: {"model": model} for status in (200, *statuses)}}


def _request_body(model: type[BaseModel], *, required: bool) -> dict[str, Any]:
    content = {"application/json": {"schema": body_schema(model)}}
    return {"requestBody": {"required": required, "content": content}}


# What `messages.read` takes. The route reads the body itself, since tensors may follow the JSON.
# That form has no content type here, nor have answers in it: generated clients speak JSON, and
# those of a second content type don't compile, or give bytes.
INFERENCE: dict[str, Any] = {
    "openapi_extra": _request_body(InferenceRequest, required=True),
    **answered_by(InferenceResponse),
}
INDEX: dict[str, Any] = {
    "openapi_extra": _request_body(IndexRequest, required=False),
    **answered_by(list[IndexedModel]),
}
