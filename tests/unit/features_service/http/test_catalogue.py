"""Pages over a set that Redis scans step by step, and may resize between two pages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.features.http.catalogue import CursorError, PagePlace, page_of_ids, place_of

IDS = [f"i{number}" for number in range(20)]


class ScannedSet:
    """Ids in the order of their buckets; a step gives `step` of them."""

    def __init__(self, ids: list[str], step: int) -> None:
        self.ids, self.step = ids, step

    async def scan(self, cursor: int) -> tuple[int, list[str]]:
        end = cursor + self.step
        return (end if end < len(self.ids) else 0), self.ids[cursor:end]


@given(st.permutations(IDS), st.lists(st.integers(1, 25), min_size=1), st.integers(1, 9))
async def test_every_id_comes_whatever_the_steps_become(
    ids: list[str], steps: list[int], limit: int
) -> None:
    scanned, found, place = ScannedSet(ids, steps[0]), list[str](), PagePlace()
    for number in range(1, 500):
        page, cursor = await page_of_ids(scanned.scan, place, limit)
        assert len(page) <= limit
        found += page
        if cursor is None:
            break
        place, scanned.step = place_of(cursor), steps[min(number, len(steps) - 1)]
    assert set(found) == set(IDS)
    if len(set(steps)) == 1:
        assert len(found) == len(IDS)


@pytest.mark.parametrize("cursor", ["x", "!", "WzEsMl0", "WyIxIiwyLCJhIl0", "WzEsLTIsImEiXQ", "NQ"])
def test_a_text_that_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(CursorError):
        place_of(cursor)
