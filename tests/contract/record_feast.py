"""Records what Feast's own feature server answers, for `test_feast.py`: `python -m
tests.contract.record_feast`.

Feast is installed into a virtual environment (see `bench/feature_reads.py`). Its
online store is SQLite here, since with Redis it marks an entity that it never saw as PRESENT, with
SQLite as NOT_FOUND. The repository has the views `visitor` and `item`, with made-up values for
v0..v4 and i0..i4; v0's row is rewritten with a null, i4's with an old timestamp. Run it again
when `feature_reads.FEAST_RELEASE` changes, and look at what changed.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx

from bench import feature_reads

SAMPLES = Path(__file__).parent / "samples" / "feast"
TWO = {"user_id": ["v1", "nobody"]}
BOTH = {"user_id": ["v1", "v1", "nobody"], "item_id": ["i1", "nothing", "i2"]}

# name → (path, body)
REQUESTS: dict[str, tuple[str, Any]] = {
    "scalars": (
        "/get-online-features",
        {"features": ["visitor:views", "visitor:hours_since_last"], "entities": TWO},
    ),
    "sequences": (
        "/get-online-features",
        {"features": ["visitor:recent_items", "visitor:recent_times"], "entities": TWO},
    ),
    "two-views": (
        "/get-online-features",
        {
            "features": ["item:popularity", "visitor:views", "item_neighbours:neighbours"],
            "entities": BOTH,
        },
    ),
    "full-names": (
        "/get-online-features",
        {"features": ["visitor:views", "item:views"], "entities": BOTH, "full_feature_names": True},
    ),
    "colliding-names": (
        "/get-online-features",
        {"features": ["visitor:views", "item:views"], "entities": BOTH},
    ),
    "feature-service": (
        "/get-online-features",
        {"feature_service": "recommender", "entities": TWO},
    ),
    "version-metadata": (
        "/get-online-features",
        {
            "features": ["visitor:views"],
            "entities": TWO,
            "include_feature_view_version_metadata": True,
        },
    ),
    "null": (
        "/get-online-features",
        {"features": ["visitor:views", "visitor:carts"], "entities": {"user_id": ["v0"]}},
    ),
    "old": ("/get-online-features", {"features": ["item:views"], "entities": {"item_id": ["i4"]}}),
    "number-as-id": (
        "/get-online-features",
        {"features": ["visitor:views"], "entities": {"user_id": [7]}},
    ),
    "unknown-view": ("/get-online-features", {"features": ["shop:views"], "entities": TWO}),
    "unknown-feature": ("/get-online-features", {"features": ["visitor:nothing"], "entities": TWO}),
    "unknown-service": ("/get-online-features", {"feature_service": "nothing", "entities": TWO}),
    "no-feature": ("/get-online-features", {"features": [], "entities": TWO}),
    "not-a-reference": ("/get-online-features", {"features": ["views"], "entities": TWO}),
    "missing-entity": (
        "/get-online-features",
        {"features": ["visitor:views"], "entities": {"item_id": ["i1"]}},
    ),
    "surplus-entity": (
        "/get-online-features",
        {"features": ["visitor:views"], "entities": {**TWO, "item_id": ["i1", "i2"]}},
    ),
    "unknown-entity": (
        "/get-online-features",
        {"features": ["visitor:views"], "entities": {**TWO, "shop_id": ["s1", "s2"]}},
    ),
    "unequal-lengths": (
        "/get-online-features",
        {
            "features": ["visitor:views", "item:popularity"],
            "entities": {"user_id": ["v1"], "item_id": ["i1", "i2"]},
        },
    ),
    "no-rows": (
        "/get-online-features",
        {"features": ["visitor:views"], "entities": {"user_id": []}},
    ),
    "no-entities": ("/get-online-features", {"features": ["visitor:views"]}),
    "health": ("/health", None),
}

_PREPARE = {
    "null": {
        "feature_view_name": "visitor",
        "df": {
            "user_id": ["v0"],
            "event_timestamp": ["2026-11-24 12:00:00"],
            "recent_items": [["i1"]],
            "recent_times": [[1]],
            **{name: [1 if name != "carts" else None] for name in feature_reads.VISITOR_FEATURES},
        },
    },
    "old": {
        "feature_view_name": "item",
        "df": {
            "item_id": ["i4"],
            "event_timestamp": ["2001-09-09 01:46:40"],
            **{name: [1] for name in feature_reads.ITEM_FEATURES},
        },
    },
}


def main(environment: Path) -> None:
    """Install, start, ask; one file a request: {"request": {path, body}, "response": {status,
    content_type, body}}.
    """
    python = feature_reads.installed_feast(environment, print)
    SAMPLES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        feature_reads.make_repository(python, Path(directory), "", "slipstream", 5, 5)
        with feature_reads.running_feast(python, Path(directory)) as url:
            for name, (path, body) in REQUESTS.items():
                if name in _PREPARE:
                    answer = httpx.post(
                        f"{url}/write-to-online-store", json=_PREPARE[name], timeout=30
                    )
                    print(name, "prepared:", answer.status_code, answer.text[:300])
                answer = (
                    httpx.post(url + path, json=body, timeout=30)
                    if body is not None
                    else httpx.get(url + path, timeout=30)
                )
                recorded = {
                    "request": {"path": path, "body": body},
                    "response": {
                        "status": answer.status_code,
                        "content_type": answer.headers.get("content-type"),
                        "body": answer.json() if answer.content else None,
                    },
                }
                (SAMPLES / f"{name}.json").write_text(
                    json.dumps(recorded, indent=1) + "\n", encoding="utf-8"
                )
                print(name, answer.status_code, answer.text[:400])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(".slipstream/feast"))
