from slipstream.recommender.bundle import Bundle
from slipstream.recommender.stages import Event
from slipstream.slates.reasons.measured_reasons import past_items


def test_an_item_has_its_event_of_most_weight_the_latest_of_several(whole: Bundle) -> None:
    history = [
        Event("i1", "purchase", 1),
        Event("i2", "view", 2),
        Event("i1", "purchase", 3),
        Event("i1", "view", 4),
        Event("i2", "click", 5),
    ]
    found = [
        (past.item_id, past.event_type, past.timestamp, past.weight, past.events)
        for past in past_items(whole, history)
    ]
    assert found == [("i2", "click", 5, 1.0, 2), ("i1", "purchase", 3, 3.0, 3)]


def test_events_that_change_no_list_are_not_there(whole: Bundle) -> None:
    history = [Event("unknown"), Event("i3", "impression"), Event("i4", "remove"), Event("i5")]
    assert [past.item_id for past in past_items(whole, history)] == ["i5"]
