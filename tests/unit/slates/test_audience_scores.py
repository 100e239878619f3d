"""The interest in a new item: the score and the place that it has in a visitor's own list."""

import pytest

from slipstream.recommender import stages
from slipstream.slates.audience_scores import borrowed_interests
from slipstream.slates.slate_request import SlateRequest, Step
from tests.unit.serving.fakes import SHELVES, described_bundle
from tests.unit.slates.catalogue.test_borrowing import a_setting, upsert


async def test_new_item_interests_a_visitor_as_much_as_their_list_says() -> None:
    setting = a_setting()
    upsert(setting, "new-05", SHELVES["item-05"])
    upsert(setting, "new-39", SHELVES["item-39"])
    assert setting.model is not None
    space = setting.catalog.space(setting.model)
    history = setting.online.visitors["ada"].sequence
    question = stages.list_question(
        described_bundle(), history, stages.RANKED, allowed=setting.catalog.mask(setting.model)
    )
    request = SlateRequest(100, "ada", steps=(Step.MODEL,))
    listed = (await setting.line.answer(request)).items
    ids = [item.item_id for item in listed]
    for item_id in ("new-05", "new-39"):
        number = space.number(item_id)
        assert number is not None
        (interest,) = borrowed_interests(described_bundle(), space, [question], [history], number)
        assert interest.score == pytest.approx(listed[ids.index(item_id)].score)
        # Its place is among the known items: other new ones have no say.
        known = [each for each in ids if each == item_id or not each.startswith("new")]
        assert interest.place == known.index(item_id) + 1
    (nothing,) = borrowed_interests(
        described_bundle(), space, [question], [history], len(space) + 1
    )
    assert nothing == (0.0, None)
