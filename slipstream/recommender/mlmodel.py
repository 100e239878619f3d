"""The bundle's file `MLmodel`, by which MLflow loads it as a pyfunc model."""

import json
import platform
from datetime import UTC, datetime
from typing import Any, Final

from slipstream.contracts.bundle import Manifest

# Name of the file, and of the module that MLflow has load the bundle.
MLMODEL: Final = "MLmodel"
LOADER: Final = "slipstream.recommender.pyfunc"
# MLflow leaves this file in a model's folder when it loads it from there.
LEFT_BY_MLFLOW: Final = "registered_model_meta"
DEFAULT_N: Final = 10


def _list(name: str, of: str, *, required: bool = True) -> dict[str, Any]:
    return {"name": name, "type": "array", "items": {"type": of}, "required": required}


_INPUTS: Final = [
    _list("items", "string"),
    _list("event_types", "string", required=False),
    _list("timestamps", "long", required=False),
]
_OUTPUTS: Final = [_list("items", "string"), _list("scores", "double")]
_PARAMETERS: Final = [{"name": "n", "type": "long", "default": DEFAULT_N, "shape": None}]


def mlmodel(manifest: Manifest) -> str:
    """The text of `MLmodel`: the loader, and the columns that go in and come out.

    It is JSON, which YAML, MLflow's format, contains.
    """
    created = datetime.fromtimestamp(manifest.created_at / 1000, UTC)
    content = {
        "flavors": {
            "python_function": {
                "loader_module": LOADER,
                "python_version": platform.python_version(),
            }
        },
        "metadata": {"version": manifest.version},
        # Texts of JSON within, as MLflow writes them.
        "signature": {
            "inputs": json.dumps(_INPUTS),
            "outputs": json.dumps(_OUTPUTS),
            "params": json.dumps(_PARAMETERS),
        },
        "utc_time_created": created.strftime("%Y-%m-%d %H:%M:%S.%f"),
    }
    return json.dumps(content, indent=2)
