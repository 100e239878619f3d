"""One of the Open Inference Protocol's own clients, unmodified, for lists of the model:
`python inference_client.py kserve|triton HOST:PORT TOKEN`, in the environment of that client.
"""

import asyncio
import sys
from importlib.metadata import version

MODEL = "recommender"
CLIENT, ADDRESS, TOKEN = sys.argv[1:]
KEY = {"Authorization": f"Bearer {TOKEN}"}
VISITORS = ["u0", "u1"]


async def by_kserve():
    from kserve import InferenceRESTClient, InferInput, InferRequest
    from kserve.inference_client import RESTConfig

    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        url = f"http://{ADDRESS}"
        assert await client.is_server_ready(url, headers=KEY)
        assert await client.is_model_ready(url, MODEL, headers=KEY)
        request = InferRequest(MODEL, [InferInput("user_id", [2], "BYTES", data=VISITORS)])
        answer = await client.infer(url, request, MODEL, headers={**KEY})
    return answer.get_output_by_name("items").as_numpy(), answer.parameters["answered_by"]


def by_triton():
    import numpy as np
    import tritonclient.http as triton

    client = triton.InferenceServerClient(ADDRESS)
    assert client.is_server_ready(headers={**KEY})
    assert client.is_model_ready(MODEL, headers={**KEY})
    tensor = triton.InferInput("user_id", [2], "BYTES")
    tensor.set_data_from_numpy(np.array(VISITORS, dtype=object), binary_data=False)
    answer = client.infer(MODEL, [tensor], headers={**KEY})
    return answer.as_numpy("items"), answer.get_response()["parameters"]["answered_by"]


items, answered_by = asyncio.run(by_kserve()) if CLIENT == "kserve" else by_triton()
assert items.shape == (2, 10), items
assert answered_by == "model,model", answered_by
package = {"kserve": "kserve", "triton": "tritonclient"}[CLIENT]
print(f"{package} {version(package)}: lists of 10 items for {len(VISITORS)} visitors by the model")
