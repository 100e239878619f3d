import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.recommender.stored_ids import StoredIds, arrays_of

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


def test_an_index_is_made_of_ids_without_one() -> None:
    arrays = arrays_of(["a", "bc", ""])
    without = StoredIds({name: arrays[name] for name in ("texts", "ends")})
    assert {name: array.tolist() for name, array in without.arrays.items()} == {
        name: array.tolist() for name, array in arrays.items()
    }


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
