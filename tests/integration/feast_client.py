"""Feast's SDK, unmodified, against features: `python feast_client.py URL TOKEN FOLDER`.

It runs in an environment of its own (`make clients`), and prints the SDK's version at the end.
FOLDER becomes a feature repository that declares the views of the service. The events of
`test_feast_client.py` are on their way there.
"""

import math
import sys
import time
from importlib.metadata import version
from pathlib import Path

import requests
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType, types

URL, TOKEN, FOLDER = sys.argv[1], sys.argv[2], Path(sys.argv[3])
KEY = {"Authorization": f"Bearer {TOKEN}"}
CONFIGURATION = f"""\
project: shop
provider: local
registry: {FOLDER / "registry.db"}
online_store: {{type: remote, path: "{URL}"}}
auth: {{type: oidc, token: {TOKEN}}}
entity_key_serialization_version: 3
"""
ENTITIES = {
    key: Entity(name=key, join_keys=[key], value_type=ValueType.STRING)
    for key in ("user_id", "item_id")
}


def source(name):
    return FileSource(
        name=f"{name}_file",
        path=str(FOLDER / f"{name}.parquet"),
        timestamp_field="event_timestamp",
    )


def dtype(name):
    inner = name.removeprefix("Array(").removesuffix(")")
    scalar = getattr(types, inner)
    return types.Array(scalar) if inner != name else scalar


def repository():
    FOLDER.joinpath("feature_store.yaml").write_text(CONFIGURATION)
    store = FeatureStore(repo_path=str(FOLDER))
    declared = requests.get(f"{URL}/v1/feature-views", headers=KEY, timeout=30).json()["items"]
    views = [
        FeatureView(
            name=view["name"],
            entities=[ENTITIES[key] for key in view["join_keys"]],
            schema=[Field(name=one["name"], dtype=dtype(one["dtype"])) for one in view["fields"]],
            source=source(view["name"]),
        )
        for view in declared
    ]
    store.apply([*ENTITIES.values(), *views])
    return store, [f"{view['name']}:{one['name']}" for view in declared for one in view["fields"]]


def read(store, features):
    rows = [
        {"user_id": user, "item_id": item}
        for user, item in (("ada", "kettle"), ("bob", "kettle"), ("nobody", "nothing"))
    ]
    given = store.get_online_features(features, rows, full_feature_names=True).to_dict()
    body = {
        "features": features,
        "entities": {key: [row[key] for row in rows] for key in ENTITIES},
        "full_feature_names": True,
    }
    raw = requests.post(f"{URL}/get-online-features", json=body, headers=KEY, timeout=30).json()
    values = [result["values"] for result in raw["results"]]
    return given, dict(zip(raw["metadata"]["feature_names"], values, strict=True))


EXPECTED = {
    "visitor__views": [1, 0, None],
    "visitor__purchases": [1, 0, None],
    "visitor__recent_items": [["kettle", "kettle"], None, None],
    "visitor_affinity__top_category": ["kitchen", "", None],
    "item__purchases": [1, 1, None],
    "item_neighbours__neighbours": [None, None, None],
    "request__item_price": [19.9, 19.9, -1.0],
}


def differences(given, raw):
    """What differs from the expected values, and between the SDK and a plain request."""
    found = {name: given[name] for name, values in EXPECTED.items() if given[name] != values}
    for name in given.keys() | raw.keys():
        pairs = list(zip(given.get(name, []), raw.get(name, []), strict=True))
        for ours, theirs in pairs:
            if isinstance(ours, float):  # some grow with every moment
                same = theirs is not None and math.isclose(ours, theirs, rel_tol=0.05, abs_tol=0.05)
            else:
                same = ours == theirs
            if not same or not pairs:
                found[name] = pairs
    return found


def check(store, features):
    """Wait until all is there: events and items come over topics of several partitions."""
    deadline = time.monotonic() + 60
    while found := differences(*read(store, features)):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


if __name__ == "__main__":
    shop, all_features = repository()
    check(shop, all_features)
    print(f"feast {version('feast')}: {len(all_features)} features of all views read")
