"""Columns of attributes, and the list of the newest items."""

from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from slipstream.slates.catalogue import columns as columns_module
from slipstream.slates.catalogue.columns import Columns, NewestItems

_WORDS = st.sampled_from(["a", "b", "c", "d"])
_VALUES = st.one_of(
    st.floats(allow_nan=False), st.booleans(), _WORDS, st.lists(_WORDS, max_size=4), st.none()
)
_CHANGES = st.lists(
    st.tuples(st.integers(0, 5), st.dictionaries(st.sampled_from(["x", "y"]), _VALUES, max_size=2)),
    max_size=40,
)


def _read(columns: Columns, row: int) -> dict[str, Any]:
    """The attributes of a row, out of the columns."""
    found: dict[str, Any] = {}
    for name, numbers in columns.numbers.items():
        if not np.isnan(numbers.get(row)):
            found[name] = numbers.get(row)
    for kind in (columns.categories, columns.lists):
        for name, column in kind.items():
            words = {code: word for word, code in column.vocabulary.codes.items()}
            if values := [words[code] for code in column.codes_of(row)]:
                found[name] = values
    return found


def _expected(attributes: dict[str, Any]) -> dict[str, Any]:
    as_lists = {
        name: list(dict.fromkeys([value] if isinstance(value, str) else value))
        if isinstance(value, str | list)
        else value
        for name, value in attributes.items()
    }
    return {name: value for name, value in as_lists.items() if value is not None and value != []}


@given(_CHANGES)
@example([(0, {"x": ["a"]}), (0, {"x": ["a", "b"]})])
def test_columns_hold_what_each_item_has_now(changes: list[tuple[int, dict[str, Any]]]) -> None:
    columns, now = Columns(), dict[int, dict[str, Any]]()
    for row, attributes in changes:
        columns.put(row, now.get(row, {}), attributes)
        now[row] = attributes
    for row, attributes in now.items():
        assert _read(columns, row) == _expected(attributes)
    for row in now:
        for vocabulary, code in columns.terms(row):
            assert row in vocabulary.rows(code)


def test_lists_of_several_rows_are_read_at_once() -> None:
    columns = Columns()
    for row, tags in enumerate([["a", "b", "c"], [], ["c"]]):
        columns.put(row, {}, {"tags": tags})
    column, rows = columns.lists["tags"], np.array([2, -1, 1, 0, 7, 0], np.int32)
    a, b, c = (column.vocabulary.codes[text] for text in "abc")
    for most, codes in ((None, [c, a, b, c, a, b, c]), (2, [c, a, b, a, b]), (0, [])):
        places, found = column.entries(rows, most)
        assert found.tolist() == codes
        assert places.tolist() == [0] * (codes != []) + [3] * (len(codes) // 2) + [5] * (
            len(codes) // 2
        )


def test_lists_that_change_all_the_time_take_no_more_room() -> None:
    columns, before = Columns(), dict[str, Any]()
    columns.put(1, {}, {"tags": ["fixed"]})
    for number in range(5_000):
        after = {"tags": [f"tag {number}", f"tag {number + 1}"]}
        columns.put(0, before, after)
        before = after
    tags = columns.lists["tags"]
    assert len(tags.arrays[0]) < 2_000
    assert set(tags.vocabulary.codes) == {"tag 4999", "tag 5000", "fixed"}
    assert len(tags.codes_of(0)) == 2
    assert tags.codes_of(1) == [tags.vocabulary.codes["fixed"]]


def test_attributes_without_end_make_no_columns_without_end() -> None:
    columns = Columns()
    for number in range(2 * columns_module.MOST_COLUMNS):
        columns.put(number, {}, {f"attribute {number}": "some", f"size {number}": 1})
    assert len(columns.categories) == len(columns.numbers) == columns_module.MOST_COLUMNS
    columns.put(150, {"attribute 150": "some", "size 150": 1}, {})


def test_long_texts_and_what_identifies_an_item_are_no_categories() -> None:
    columns = Columns()
    columns.put(0, {}, {"title": "A shoe", "care": "x" * 65, "part": {"of": "this"}, "brand": "b"})
    assert list(columns.categories) == ["brand"]
    assert not columns.lists
    assert not columns.numbers


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30), st.integers(1, 10))
def test_the_list_is_the_latest_of_all_that_may_be_shown(
    rows: list[tuple[int, bool]], kept: int
) -> None:
    items = NewestItems(kept)
    ids = [f"item-{row:02}" for row in range(len(rows))]
    for row, (appeared, _) in enumerate(rows):
        items.put(row, appeared)
    shown = np.array([visible for _, visible in rows], np.bool_)
    expected = sorted(
        ((ids[row], float(at)) for row, (at, visible) in enumerate(rows) if visible),
        key=lambda entry: (-entry[1], entry[0]),
    )
    found = items.latest(ids, shown, 1)
    assert [at for _, at in found] == [at for _, at in expected[:kept]]
    assert set(found) <= set(expected)
    if len(expected) <= kept:
        assert found == expected


def test_a_change_shows_once_the_list_is_a_second_old() -> None:
    seconds = [0.0]
    items = NewestItems(clock=lambda: seconds[0])
    shown = np.ones(2, np.bool_)
    items.put(0, 1.0)
    assert items.latest(["a", "b"], shown, 1) == [("a", 1.0)]
    items.put(1, 2.0)
    assert items.latest(["a", "b"], shown, 2) == [("a", 1.0)]
    seconds[0] = 1.0
    assert items.latest(["a", "b"], shown, 2) == [("b", 2.0), ("a", 1.0)]
