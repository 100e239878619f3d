import pytest

from slipstream.stores.layout import REVISION_BYTES
from slipstream.stores.state_cache import StateCache


def value(revision: int, text: bytes) -> bytes:
    return bytes([revision] * REVISION_BYTES) + text


def test_a_value_is_decoded_once_for_each_revision() -> None:
    calls: list[bytes] = []

    def decode(raw: bytes) -> bytes:
        calls.append(raw)
        return raw[REVISION_BYTES:]

    cache = StateCache(decode, 10)
    assert [cache.state("a", value(1, b"x")) for _ in range(3)] == [b"x"] * 3
    assert cache.state("a", value(2, b"y")) == b"y"
    assert cache.state("b", value(2, b"z")) == b"z"
    assert cache.state("a", value(1, b"x")) == b"x"
    assert calls == [value(1, b"x"), value(2, b"y"), value(2, b"z"), value(1, b"x")]


def test_written_state_is_not_decoded_unless_the_write_was_lost() -> None:
    cache = StateCache(lambda raw: raw[REVISION_BYTES:], 10)
    cache.remember("a", bytes([3] * REVISION_BYTES), b"written")
    assert cache.state("a", value(3, b"not looked at")) == b"written"
    assert cache.state("a", value(4, b"another's")) == b"another's"


def test_cache_keeps_no_more_than_its_size() -> None:
    calls: list[bytes] = []
    cache = StateCache(calls.append, 2)
    for key in ("a", "b", "c", "b", "c", "a"):
        cache.state(key, value(1, key.encode()))
    assert [raw[REVISION_BYTES:] for raw in calls] == [b"a", b"b", b"c", b"a"]


def test_value_that_can_not_be_decoded_is_not_kept() -> None:
    def decode(raw: bytes) -> None:
        raise ValueError(raw)

    cache = StateCache(decode, 2)
    for _ in range(2):
        with pytest.raises(ValueError, match="x"):
            cache.state("a", value(1, b"x"))
