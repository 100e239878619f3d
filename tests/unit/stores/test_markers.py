from slipstream.features.visitor import SequenceEvent, VisitorState
from slipstream.stores.layout import MergeMarker
from slipstream.stores.markers import Content, path_of, state_to_read, targets_of


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
