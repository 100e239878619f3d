"""Clients that openapi-python-client made, against a shop: `python openapi_client.py SHOP`.

It runs in an environment of its own (`make clients`), which finds the packages `<service>_client`.
SHOP is JSON with the services' addresses, a write key and a token.
"""

import base64
import importlib
import json
import pkgutil
import sys
import time

from features_client.api.features import feature_views, features, request_features, status
from features_client.models import EntityFeatures, FeaturesView
from ingestion_client.api.events import track
from ingestion_client.models import TrackTrack
from serving_client.api.open_inference_protocol import infer, server_metadata
from serving_client.api.recommendations import model, recommendations
from serving_client.models import InferInferenceRequest

SHOP = json.loads(sys.argv[1])

for service in ("ingestion", "features", "training", "serving", "monitoring"):
    package = importlib.import_module(f"{service}_client")
    for module in pkgutil.walk_packages(package.__path__, f"{service}_client."):
        importlib.import_module(module.name)


def client_of(service, token, prefix="Bearer"):
    made = importlib.import_module(f"{service}_client")
    return made.AuthenticatedClient(base_url=SHOP[service], token=token, prefix=prefix)


basic = base64.b64encode(f"{SHOP['write_key']}:".encode()).decode()
ingestion = client_of("ingestion", basic, "Basic")
stream = client_of("features", SHOP["token"])
serving = client_of("serving", SHOP["token"])

sent = TrackTrack.from_dict(
    {"event": "view", "userId": "gen", "properties": {"item_id": "item-03"}}
)
(verdict,) = track.sync(client=ingestion, body=sent).results
assert verdict.status == "accepted", verdict

found = None
until = time.monotonic() + 60
while not isinstance(found, EntityFeatures):
    assert time.monotonic() < until, "the event did not arrive"
    found = features.sync(FeaturesView.VISITOR, "gen", client=stream)
    time.sleep(0.05)
assert found.counts["view"] == 1
assert found.features["recent_items"] == ["item-03"]
assert found.sequence[0].item_id == "item-03"
pair = request_features.sync(client=stream, user_id="gen", item_id="item-03")
assert pair.features["item_events"] == 1
assert feature_views.sync(client=stream).items[0].name == "visitor"
assert status.sync(client=stream).applied >= 1

slate = recommendations.sync("gen", client=serving, n=3)
assert len(slate.items) == 3 and slate.answered_by == "model", slate
assert model.sync(client=serving).version == slate.model_version
assert server_metadata.sync(client=serving).name == "slipstream-serving"
tensor = {"name": "user_id", "shape": [1], "datatype": "BYTES", "data": ["gen"]}
answer = infer.sync(
    "recommender", client=serving, body=InferInferenceRequest.from_dict({"inputs": [tensor]})
)
assert answer.outputs[0].name == "items" and len(answer.outputs[0].data) == 10, answer
