from slipstream.features.visitor import SequenceEvent, VisitorState
from slipstream.stores.layout import MergeMarker
from slipstream.stores.visitor_values import Content, path_of, state_to_read, targets_of, to_read


def state(item: str, at: int, **changes: object) -> VisitorState:
    fields = {"applied": {"t:0": at}, **changes}
    return VisitorState([SequenceEvent(item, "view", at)], {"view": 1}, at, at, **fields)  # type: ignore[arg-type]


def items_of(read: VisitorState | None) -> list[str]:
    return [event.item_id for event in read.sequence] if read else []


def test_path_leads_over_all_markers_to_the_end() -> None:
    contents: dict[str, Content] = {"a": MergeMarker("b"), "b": MergeMarker("u"), "u": None}
    assert path_of(contents, "a") == ["a", "b", "u"]
    assert path_of(contents, "u") == ["u"]
    assert targets_of(contents.values()) == {"b", "u"}


def test_path_is_empty_without_an_end_and_in_a_circle() -> None:
    assert path_of({"a": MergeMarker("u")}, "a") == []
    assert path_of({"a": MergeMarker("b"), "b": MergeMarker("a")}, "a") == []


def test_reader_gets_the_state_at_the_end_of_the_markers() -> None:
    end = state("x", 1)
    assert state_to_read({"a": MergeMarker("u"), "u": end}, "a") is end
    assert state_to_read({"u": None}, "u") is None


def test_reader_gets_states_that_wait_in_markers_once() -> None:
    waiting = state("y", 2)
    before = state_to_read({"a": MergeMarker("u", waiting), "u": state("x", 1)}, "a")
    assert items_of(before) == ["x", "y"]
    assert before is not None
    assert state_to_read({"a": MergeMarker("u", waiting), "u": before}, "a") is before


def test_reader_that_sees_a_circle_gets_the_state_in_the_marker() -> None:
    waiting = state("y", 2)
    contents: dict[str, Content] = {"a": MergeMarker("b", waiting), "b": MergeMarker("a")}
    assert state_to_read(contents, "a") is waiting
    assert state_to_read(contents, "b") is None


def test_reader_of_a_pages_marker_gets_the_visitors_own_history() -> None:
    own, user = state("mine", 1), state("secret", 2)
    contents: dict[str, Content] = {"a": MergeMarker("u", own=own)}
    assert to_read(contents) == {"a~unproven"}, "nothing of the user is even read"
    assert items_of(state_to_read({**contents, "a~unproven": None, "u": user}, "a")) == ["mine"]
    later = state("later", 3)
    read = state_to_read({**contents, "a~unproven": later, "u": user}, "a")
    assert items_of(read) == ["mine", "later"]
    chained = {**contents, "b": MergeMarker("a"), "a~unproven": later, "u": user}
    assert items_of(state_to_read(chained, "b")) == ["mine", "later"]


def test_reader_of_a_pages_marker_is_led_to_the_user_once_that_is_proven() -> None:
    own = state("mine", 1)
    user = state_to_read({"a": MergeMarker("u", own), "u": state("secret", 2)}, "a")
    contents: dict[str, Content] = {
        "a": MergeMarker("u", own=own),
        "a~unproven": MergeMarker("u"),
        "u": user,
    }
    assert items_of(state_to_read(contents, "a")) == ["mine", "secret"], "each once"


def test_reader_of_too_long_a_path_gets_the_visitors_own_history() -> None:
    own = state("mine", 1)
    assert state_to_read({"a": MergeMarker("u", own, own)}, "a") is own
