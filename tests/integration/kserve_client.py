"""KServe's client, unmodified, against a serving: `python kserve_client.py HOST:PORT TOKEN`.

It runs in an environment of its own (`make clients`), and prints the client's version at the end.
"""

import asyncio
import sys
from importlib.metadata import version

import httpx
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

MODEL = "recommender"
ADDRESS, TOKEN = sys.argv[1:]
URL = f"http://{ADDRESS}"
KEY = {"Authorization": f"Bearer {TOKEN}"}
VISITORS = ["ada", "nobody"]


def visitors():
    return [InferInput("user_id", [len(VISITORS)], "BYTES", data=VISITORS)]


def check(answer, width=10):
    items = answer.get_output_by_name("items").as_numpy()
    scores = answer.get_output_by_name("scores").as_numpy()
    assert items.shape == scores.shape == (2, width), (items, scores)
    assert items[0, 0] == "item-05", items
    assert scores[0, 0] > scores[0, 1] > 0, scores
    assert answer.parameters["answered_by"] == "model,trending"


async def refused(status, said, asked):
    try:
        await asked
    except httpx.HTTPStatusError as error:
        assert error.response.status_code == status
        assert str(error).startswith(said), error
    else:
        raise AssertionError(f"{said!r} was expected")


async def ask(client):
    assert await client.is_server_live(URL, headers=KEY)
    assert await client.is_server_ready(URL, headers=KEY)
    assert await client.is_model_ready(URL, MODEL, headers=KEY)
    assert not await client.is_model_ready(URL, "other", headers=KEY)
    for in_binary in (None, {"binary_data_output": True}):
        request = InferRequest(MODEL, visitors(), parameters=in_binary)
        check(await client.infer(URL, request, MODEL, headers={**KEY}))
    wanted = [RequestedOutput("scores", {"binary_data": True}), RequestedOutput("items")]
    request = InferRequest(MODEL, visitors(), "42", parameters={"n": 3}, request_outputs=wanted)
    answer = await client.infer(URL, request, MODEL, headers={**KEY})
    check(answer, 3)
    assert answer.id == "42"
    tensor = {"name": "user_id", "shape": [2], "datatype": "BYTES", "data": VISITORS}
    check(await client.infer(URL, {"inputs": [tensor]}, MODEL, headers=KEY))

    request = InferRequest("other", visitors())
    await refused(404, "there is no model", client.infer(URL, request, "other", headers={**KEY}))
    await refused(401, "Send a key", client.is_server_ready(URL))
    request = InferRequest(MODEL, visitors(), request_outputs=[RequestedOutput("x")])
    await refused(400, "outputs.0.name", client.infer(URL, request, MODEL, headers={**KEY}))


async def main():
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        await ask(client)


asyncio.run(main())
print("kserve", version("kserve"))
