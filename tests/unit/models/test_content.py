from slipstream.models.content import fit_content
from slipstream.models.neighbours import revisits
from tests.unit.models.logs import history_of


def test_items_that_share_rare_attributes_are_nearest() -> None:
    items = [
        {"colour": "mauve", "kind": "shirt"},
        {"colour": "mauve", "kind": "shirt"},
        {"colour": "blue", "kind": "shirt"},
        {"colour": "blue", "kind": "trousers"},
    ]
    scored = fit_content(items).score(history_of(0))
    by_item = dict(zip(scored.item.tolist(), scored.score.tolist(), strict=True))
    assert by_item[1] > by_item[2] > by_item.get(3, 0)
    assert by_item.get(0, 0) == 0


def test_only_so_many_neighbours_are_kept() -> None:
    model = fit_content(
        [{"kind": "shirt", "number": place % 3} for place in range(9)], neighbours=2
    )
    assert [
        (row != 0).sum() for row in model.score_all([history_of(place) for place in range(9)])
    ] == [2] * 9


def test_items_without_attributes_have_no_neighbours() -> None:
    assert len(fit_content([{}, {"title": None}]).score(history_of(0)).item) == 0
    alone = fit_content([{"a": "b"}, {}, {}]).score_all([history_of(1)])
    assert not alone.any()


def test_revisits_are_the_history_latest_first() -> None:
    scored = revisits(10).score(history_of(4, 2, 4))
    assert scored.item.tolist() == [2, 4]
    assert scored.score[1] > scored.score[0]
