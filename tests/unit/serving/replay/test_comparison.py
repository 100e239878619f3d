"""Comparison of lists: the first difference, and the changes of each item."""

from hypothesis import given
from hypothesis import strategies as st

from services.serving.replay.comparison import diff, first_difference
from slipstream.slates.slate_request import Item

lists = st.lists(st.sampled_from("abcdefgh"), unique=True).map(
    lambda ids: [Item(item_id, 1 / (1 + place), "it") for place, item_id in enumerate(ids)]
)


def test_the_first_difference_is_that_of_an_item_a_score_or_the_length() -> None:
    recorded = [Item("a", 0.5, ""), Item("b", 0.25, "")]
    assert first_difference(recorded, [Item("a", 0.500009, "x"), Item("b", 0.25, "")]) is None
    other = first_difference(recorded, [Item("a", 0.5, ""), Item("c", 0.25, "")])
    assert other is not None
    assert (other.place, other.recorded.item_id, other.rebuilt.item_id) == (2, "b", "c")  # type: ignore[union-attr]
    score = first_difference(recorded, [Item("a", 0.50002, ""), Item("b", 0.25, "")])
    assert score is not None
    assert score.place == 1
    end = first_difference(recorded, recorded[:1])
    assert end is not None
    assert (end.place, end.rebuilt) == (2, None)


@given(lists, lists)
def test_the_changes_make_one_list_of_the_other(before: list[Item], after: list[Item]) -> None:
    found = diff(before, after)
    ids, ids_after = [item.item_id for item in before], [item.item_id for item in after]
    assert [it.item_id for it in found.items] == ids_after + found.left
    assert set(found.entered) == set(ids_after) - set(ids)
    assert set(found.left) == set(ids) - set(ids_after)
    assert found.same_order == (ids == ids_after)
    for it in found.items:
        assert (it.place_before is None) == (it.item_id in found.entered)
        if it.place_before and it.place_after:
            assert ids[it.place_before - 1] == ids_after[it.place_after - 1] == it.item_id
            assert it.moved == it.place_before - it.place_after
