"""Triton's client, unmodified, against a serving: `python triton_client.py HOST:PORT TOKEN`.

It runs in an environment of its own (`make clients`), and prints the client's version at the end.
"""

import asyncio
import sys
from importlib.metadata import version

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

MODEL = "recommender"
ADDRESS, TOKEN = sys.argv[1:]
KEY = {"Authorization": f"Bearer {TOKEN}"}
VISITORS = np.array(["ada", "nobody"], dtype=object)


def visitors(*, names=VISITORS, binary=False, module=triton):
    tensor = module.InferInput("user_id", list(names.shape), "BYTES")
    return [tensor.set_data_from_numpy(names, binary_data=binary)]


def check(answer, width=10):
    items, scores = answer.as_numpy("items"), answer.as_numpy("scores")
    assert items.shape == scores.shape == (2, width), (items, scores)
    assert items[0, 0] == "item-05", items
    assert scores.dtype == np.float32
    assert scores[0, 0] > scores[0, 1] > 0, scores
    assert answer.get_response()["parameters"]["answered_by"] == "model,trending"


def refused(status, said, call, **arguments):
    try:
        call(**arguments)
    except InferenceServerException as error:
        assert error.status() == status, (error.status(), error.message())
        assert said in error.message(), error.message()
    else:
        raise AssertionError(f"{said!r} was expected")


def ask(client):
    assert client.is_server_live(headers={**KEY})
    assert client.is_server_ready(headers={**KEY})
    assert client.is_model_ready(MODEL, headers={**KEY})
    assert client.is_model_ready(MODEL, "1", headers={**KEY})
    assert not client.is_model_ready(MODEL, "9", headers={**KEY})
    assert client.get_server_metadata(headers={**KEY})["name"] == "slipstream-serving"
    assert client.get_model_metadata(MODEL, headers={**KEY})["versions"] == ["1"]


def infer(client):
    check(client.infer(MODEL, visitors(), headers={**KEY}))
    check(client.infer(MODEL, visitors(), "1", headers={**KEY}, parameters={"n": 3}), 3)
    column = visitors(names=VISITORS.reshape(2, 1))
    check(client.infer(MODEL, column, headers={**KEY}, request_id="42"))
    for binary in (True, False):
        wanted = [
            triton.InferRequestedOutput("scores", binary_data=True),
            triton.InferRequestedOutput("items", binary_data=binary),
        ]
        check(client.infer(MODEL, visitors(), outputs=wanted, headers={**KEY}))
    pending = [client.async_infer(MODEL, visitors(), headers={**KEY}) for _ in range(4)]
    for answer in pending:
        check(answer.get_result(timeout=30))


def fail(client):
    refused(
        "404", "there is no model", client.infer, model_name="x", inputs=visitors(), headers={**KEY}
    )
    refused(
        "404",
        "version '9'",
        client.get_model_metadata,
        model_name=MODEL,
        model_version="9",
        headers={**KEY},
    )
    refused("401", "Authorization", client.get_server_metadata)
    refused("401", "Authorization", client.infer, model_name=MODEL, inputs=visitors())
    refused(
        "400",
        "binary_data=False",
        client.infer,
        model_name=MODEL,
        inputs=visitors(binary=True),
        headers={**KEY},
    )
    refused(
        "400",
        "without Content-Encoding",
        client.infer,
        model_name=MODEL,
        inputs=visitors(),
        headers={**KEY},
        request_compression_algorithm="gzip",
    )
    refused("404", "Not Found", client.load_model, model_name=MODEL, headers={**KEY})
    refused("404", "Not Found", client.get_log_settings, headers={**KEY})
    unknown = [triton.InferRequestedOutput("embedding")]
    refused(
        "400",
        "outputs.0.name",
        client.infer,
        model_name=MODEL,
        inputs=visitors(),
        outputs=unknown,
        headers={**KEY},
    )
    classes = [triton.InferRequestedOutput("scores", class_count=2)]
    refused(
        "400",
        "classification",
        client.infer,
        model_name=MODEL,
        inputs=visitors(),
        outputs=classes,
        headers={**KEY},
    )
    many = visitors(names=np.array(["ada"] * 65, dtype=object))
    refused("400", "more than 64", client.infer, model_name=MODEL, inputs=many, headers={**KEY})
    long = visitors(names=np.array(["a" * 600_000], dtype=object))
    refused("413", "524288", client.infer, model_name=MODEL, inputs=long, headers={**KEY})


async def ask_in_a_coroutine():
    async with triton_aio.InferenceServerClient(ADDRESS) as client:
        assert await client.is_model_ready(MODEL, headers={**KEY})
        check(await client.infer(MODEL, visitors(module=triton_aio), headers={**KEY}))


with triton.InferenceServerClient(ADDRESS, concurrency=4) as connected:
    ask(connected)
    infer(connected)
    fail(connected)
asyncio.run(ask_in_a_coroutine())
print("tritonclient", version("tritonclient"))
