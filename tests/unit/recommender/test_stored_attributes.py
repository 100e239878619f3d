import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from slipstream.recommender import stored_attributes
from slipstream.recommender.bundle import Bundle, load_bundle, save_bundle
from slipstream.recommender.stored_attributes import StoredAttributes, stored

IDS = ["a", "b", "ü", "d"]
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "a": {"title": "Ä", "price": 1.5, "tags": ["x", "y"]},
    "ü": {},
    "d": {"stock": 10**30, "rating": float("inf")},
}


def read_back(attributes: dict[str, dict[str, Any]]) -> StoredAttributes:
    places = {item_id: place for place, item_id in enumerate(IDS)}
    return StoredAttributes(places, **stored(attributes, IDS))


def test_attributes_come_back_as_they_were_and_absent_ones_are_absent() -> None:
    kept = read_back(ATTRIBUTES)
    assert kept == ATTRIBUTES
    assert (list(kept), len(kept), kept.get("b", "none")) == (["a", "ü", "d"], 3, "none")
    with pytest.raises(KeyError):
        kept["unknown"]
    assert not read_back({})


def test_the_truth_of_attributes_is_not_counted_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = read_back(ATTRIBUTES)
    assert len(kept) == 3
    monkeypatch.setattr(stored_attributes.np, "count_nonzero", lambda _: pytest.fail("counted"))
    assert (kept or {}).get("a") == ATTRIBUTES["a"]


def test_loading_a_bundle_parses_no_items_attributes(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attributes = {item_id: {"title": item_id} for item_id in bundle.item_ids}
    save_bundle(replace(bundle, attributes=attributes), tmp_path / "bundle")
    parsed: list[bytes] = []

    class Counting:
        JSONDecodeError = orjson.JSONDecodeError

        @staticmethod
        def loads(text: bytes) -> Any:
            parsed.append(text)
            return orjson.loads(text)

    monkeypatch.setattr(stored_attributes, "orjson", Counting)
    loaded = load_bundle(tmp_path / "bundle")
    assert not parsed
    assert loaded.attributes is not None
    assert loaded.attributes[bundle.item_ids[-1]] == {"title": bundle.item_ids[-1]}
    assert len(parsed) == 1


def test_attributes_of_a_bundle_from_before_are_read(bundle: Bundle, tmp_path: Path) -> None:
    directory = tmp_path / "bundle"
    save_bundle(replace(bundle, attributes=None), directory)
    whole = {bundle.item_ids[0]: {"title": "x"}}
    (directory / "attributes.json").write_text(json.dumps(whole))
    manifest = json.loads((directory / "manifest.json").read_text())
    content = (directory / "attributes.json").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"]["attributes.json"] = {"sha256": digest, "bytes": len(content)}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    assert load_bundle(directory).attributes == whole


def test_texts_are_mapped_and_not_read(bundle: Bundle, tmp_path: Path) -> None:
    attributes = {item_id: {"title": item_id} for item_id in bundle.item_ids}
    save_bundle(replace(bundle, attributes=attributes), tmp_path / "bundle")
    kept = load_bundle(tmp_path / "bundle").attributes
    assert isinstance(kept, StoredAttributes)
    assert isinstance(kept._texts.base, np.memmap)
