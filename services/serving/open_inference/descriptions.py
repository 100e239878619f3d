"""What the server and its model say of themselves: metadata, configuration and index."""

from typing import Any, Final

from slipstream.slates.slate_request import MOST_ITEMS

NAME: Final = "recommender"
MOST_VISITORS: Final = 64
EXTENSIONS: Final = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
)
# Each output's datatype, in the order in which an answer has them.
OUTPUTS: Final = {"items": "BYTES", "scores": "FP32"}
_PLATFORM: Final = "slipstream_bundle"
# Names of the datatypes in Triton's `ModelConfig`.
_CONFIGURED: Final = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32"}


def server() -> dict[str, Any]:
    """The server's metadata, with the extensions that it speaks."""
    return {"name": "slipstream-serving", "version": "1", "extensions": list(EXTENSIONS)}


def metadata(version: str | None) -> dict[str, Any]:
    """The model's metadata: its versions, inputs and outputs."""
    return {
        "name": NAME,
        "versions": [version] if version else [],
        "platform": _PLATFORM,
        "inputs": [{"name": "user_id", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": [-1, -1]}
            for name, datatype in OUTPUTS.items()
        ],
    }


def configuration(version: str) -> dict[str, Any]:
    """The model's configuration, as JSON of Triton's `ModelConfig`.

    The first dimension of each tensor is the number of visitors. So `max_batch_size`, which would
    hide that dimension, is 0, and the limits are parameters.
    """
    limits = {"most_visitors": MOST_VISITORS, "most_items": MOST_ITEMS}
    return {
        "name": NAME,
        "platform": _PLATFORM,
        "backend": "slipstream",
        "version_policy": {"specific": {"versions": [version]}},
        "max_batch_size": 0,
        "input": [{"name": "user_id", "data_type": _CONFIGURED["BYTES"], "dims": [-1]}],
        "output": [
            {"name": name, "data_type": _CONFIGURED[datatype], "dims": [-1, -1]}
            for name, datatype in OUTPUTS.items()
        ],
        "parameters": {name: {"string_value": str(most)} for name, most in limits.items()},
    }


def index(version: str | None, reason: str | None, *, ready: bool) -> list[dict[str, Any]]:
    """The index of the model repository: one entry.

    Args:
        version: The version in service; None where there is none.
        reason: Why there is none.
        ready: Whether a model that is not in service is left out.
    """
    if version is None:
        state = {"state": "UNAVAILABLE", "reason": reason or "no model is loaded yet"}
        return [] if ready else [{"name": NAME, "version": "", **state}]
    return [{"name": NAME, "version": version, "state": "READY", "reason": ""}]
