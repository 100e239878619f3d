from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.recommender import stored_items
from slipstream.recommender.bundle import Bundle, load_bundle, save_bundle
from slipstream.recommender.stored_items import StoredAttributes, StoredIds, arrays_of, stored

# Two texts of one CRC-32, so of one bucket.
TWINS = ["plumless", "buckeroo"]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(st.lists(texts, unique=True), st.lists(texts, unique=True))
def test_ids_and_numbers_are_those_of_a_list_and_a_dict(ids: list[str], others: list[str]) -> None:
    stored, index = StoredIds(arrays_of(ids)), {text: number for number, text in enumerate(ids)}
    assert list(stored) == [stored[number] for number in range(len(ids))] == ids
    assert dict(stored.numbers) == index
    assert [stored.numbers.get(text, -1) for text in others] == [
        index.get(text, -1) for text in others
    ]
    found = stored.numbers_of(StoredIds(arrays_of(others)))
    assert found.tolist() == [index.get(text, -1) for text in others]


def test_ids_of_one_hash_are_told_apart() -> None:
    stored = StoredIds(arrays_of([*TWINS, "other"]))
    assert len(set(stored.arrays["hashes"].tolist())) == 2
    assert [stored.numbers[text] for text in TWINS] == [0, 1]
    first = StoredIds(arrays_of(TWINS[:1]))
    assert TWINS[1] not in first.numbers
    assert first.numbers_of(stored).tolist() == [0, -1, -1]


def test_numbers_and_ids_that_are_not_there_raise_as_a_list_and_a_dict_do() -> None:
    stored = StoredIds(arrays_of(["a", "b", "c"]))
    assert stored[-1] == "c"
    assert stored[::2] == ["a", "c"]
    with pytest.raises(IndexError):
        stored[3]
    with pytest.raises(KeyError):
        stored.numbers["d"]
    assert "\ud800" not in stored.numbers
    assert StoredIds(arrays_of([])).numbers_of(stored).tolist() == [-1] * 3


def test_all_of_a_large_table_are_found_portion_by_portion() -> None:
    ids = [f"item-{number}" for number in range(70_000)]
    stored = StoredIds(arrays_of(reversed(ids)))
    found = stored.numbers_of(StoredIds(arrays_of([*ids, "new"])))
    assert np.array_equal(found, [*range(69_999, -1, -1), -1])


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
    monkeypatch.setattr(stored_items.np, "count_nonzero", lambda _: pytest.fail("counted"))
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

    monkeypatch.setattr(stored_items, "orjson", Counting)
    loaded = load_bundle(tmp_path / "bundle")
    assert not parsed
    assert loaded.attributes is not None
    assert loaded.attributes[bundle.item_ids[-1]] == {"title": bundle.item_ids[-1]}
    assert len(parsed) == 1


def test_texts_are_mapped_and_not_read(bundle: Bundle, tmp_path: Path) -> None:
    attributes = {item_id: {"title": item_id} for item_id in bundle.item_ids}
    save_bundle(replace(bundle, attributes=attributes), tmp_path / "bundle")
    kept = load_bundle(tmp_path / "bundle").attributes
    assert isinstance(kept, StoredAttributes)
    assert isinstance(kept._texts.base, np.memmap)
