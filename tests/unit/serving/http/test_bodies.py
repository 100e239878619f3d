"""Cursors: what goes in comes out, and nothing else is taken for one."""

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.serving.http.bodies import (
    LONGEST,
    MOST_PAGED,
    CursorError,
    items_before,
    next_cursor,
)

ids = st.lists(st.text(min_size=1, max_size=60), max_size=40, unique=True)


@given(ids, ids)
def test_a_cursor_holds_the_items_of_all_pages_before(before: list[str], page: list[str]) -> None:
    cursor = next_cursor(before, page, len(page))
    assert cursor is not None
    assert items_before(cursor) == (*before, *page)


def test_a_page_that_is_not_full_is_the_last_one() -> None:
    assert next_cursor([], ["a"], 2) is None


def test_pages_end_where_their_items_are_too_many_for_a_cursor() -> None:
    page = [f"item-{number}" for number in range(100)]
    assert next_cursor([str(n) for n in range(MOST_PAGED - 100)], page, 100) is not None
    assert next_cursor([str(n) for n in range(MOST_PAGED - 99)], page, 100) is None


def _cursor(text: bytes) -> str:
    return "2" + base64.urlsafe_b64encode(zlib.compress(text)).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "1",
        "3" + (next_cursor([], ["a"], 1) or "")[1:],
        "2" + (next_cursor([], ["a"], 1) or "")[1:],
        (next_cursor([], ["a"], 1) or "")[:-4],
        "1???",
        "1\udcff",
        _cursor(b"[1]"),
        _cursor(b'{"a": "b"}'),
        _cursor(b"["),
        _cursor(b'["\xff"]'),
        _cursor(b'["a"' + b',"a"' * MOST_PAGED + b"]"),
        _cursor(b"[" + b" " * 50_000_000 + b"]"),
    ],
)
def test_what_no_answer_gave_is_refused(cursor: str) -> None:
    assert len(cursor) < 4 * LONGEST
    with pytest.raises(CursorError):
        items_before(cursor)
