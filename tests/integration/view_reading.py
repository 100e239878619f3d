"""Reading of every declared feature view, by our route and by Feast's."""

import httpx
import pytest


async def every_view_is_read(client: httpx.AsyncClient) -> None:
    """Each declared view answers with the same values as Feast's route, lists included."""
    views = (await client.get("/v1/feature-views")).json()["items"]
    for view in views:
        ids = {key: {"user_id": "u0", "item_id": "i1"}[key] for key in view["join_keys"]}
        if len(ids) == 1:
            answer = await client.get(f"/v1/features/{view['name']}/{ids[view['join_key']]}")
        else:
            answer = await client.get(f"/v1/features/{view['name']}", params=ids)
        features = answer.json()["features"]
        names = [feature["name"] for feature in view["fields"]]
        body = {
            "features": [f"{view['name']}:{name}" for name in names],
            "entities": {key: [each] for key, each in ids.items()},
        }
        results = (await client.post("/get-online-features", json=body)).json()["results"]
        assert list(features) == names
        for feature, result in zip(view["fields"], results[len(ids) :], strict=True):
            (value,) = result["values"]
            given = features[feature["name"]]
            if given == [] and value is None:  # Feast's SDK takes no empty list.
                continue
            if "Float64" in feature["dtype"]:  # Time goes on between the two reads.
                value = pytest.approx(value, abs=0.1)
            assert given == value, (view["name"], feature["name"])
    offset = {"user_id": "u0", "item_id": "i1", "utc_offset_minutes": 900}
    assert (await client.get("/v1/features/request", params=offset)).status_code == 422
    unseen = await client.get("/v1/features/request?user_id=nobody&item_id=nothing")
    assert unseen.json()["features"]["item_events"] == 0
