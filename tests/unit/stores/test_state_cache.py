import pytest

from slipstream.stores.layout import REVISION_BYTES
from slipstream.stores.state_cache import StateCache


def value(revision: int, text: bytes) -> bytes:
    return bytes([revision] * REVISION_BYTES) + text


def test_a_value_is_decoded_once_for_each_revision() -> None:
    calls: list[bytes] = []

    def decode(one: bytes) -> bytes:
        calls.append(one)
        return one[REVISION_BYTES:]

    decoded = StateCache(decode, 10)
    assert [decoded.state("a", value(1, b"x")) for _ in range(3)] == [b"x"] * 3
    assert decoded.state("a", value(2, b"y")) == b"y"
    assert decoded.state("b", value(2, b"z")) == b"z"
    assert decoded.state("a", value(1, b"x")) == b"x"
    assert calls == [value(1, b"x"), value(2, b"y"), value(2, b"z"), value(1, b"x")]


def test_what_was_written_need_not_be_decoded_unless_the_write_was_lost() -> None:
    decoded = StateCache(lambda one: one[REVISION_BYTES:], 10)
    decoded.remember("a", bytes([3] * REVISION_BYTES), b"written")
    assert decoded.state("a", value(3, b"not looked at")) == b"written"
    assert decoded.state("a", value(4, b"another's")) == b"another's"


def test_no_more_are_kept_than_it_may() -> None:
    calls: list[bytes] = []
    decoded = StateCache(calls.append, 2)
    for key in ("a", "b", "c", "b", "c", "a"):
        decoded.state(key, value(1, key.encode()))
    assert [one[REVISION_BYTES:] for one in calls] == [b"a", b"b", b"c", b"a"]


def test_what_can_not_be_decoded_is_not_kept() -> None:
    def decode(one: bytes) -> None:
        raise ValueError(one)

    decoded = StateCache(decode, 2)
    for _ in range(2):
        with pytest.raises(ValueError, match="x"):
            decoded.state("a", value(1, b"x"))
