import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from slipstream.chassis.bodies import packed, read_body, refuse_many_values, wanted_encoding
from slipstream.chassis.errors import InvalidRequestError, TooLargeError

BOTH = ("gzip", "deflate")


def sent(*chunks: bytes, leaves: bool = False) -> Request:
    """A request whose body arrives in these chunks, and whose client may leave before its end."""
    messages: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks
    ]
    messages.append({"type": "http.disconnect"} if leaves else {"type": "http.request"})

    async def receive() -> Message:
        return messages.pop(0)

    return Request({"type": "http", "headers": []}, receive)


@given(st.binary(max_size=200), st.sampled_from(BOTH))
async def test_what_is_packed_is_read_again(body: bytes, encoding: str) -> None:
    data = packed(body, encoding)
    assert await read_body(sent(data[:3], data[3:]), 200, encoding, BOTH) == body


@pytest.mark.parametrize("encoding", ["", "identity"])
async def test_a_plain_body_is_read_up_to_the_limit(encoding: str) -> None:
    assert await read_body(sent(b"ab", b"cd"), 4, encoding) == b"abcd"
    with pytest.raises(TooLargeError, match="more than 3 bytes"):
        await read_body(sent(b"ab", b"cd"), 3, encoding)


async def test_no_more_than_the_limit_is_unpacked() -> None:
    with pytest.raises(TooLargeError, match="more than 100 bytes; send less"):
        await read_body(sent(gzip.compress(b"x" * 101)), 100, "gzip", hint="; send less")


@pytest.mark.parametrize(
    ("body", "encoding", "said"),
    [
        (b"{}", "gzip", "not gzip"),
        (zlib.compress(b"{}"), "gzip", "not gzip"),
        (gzip.compress(b"{}", mtime=0), "deflate", "not deflate"),
        (gzip.compress(b"{}", mtime=0)[:-1], "gzip", "ends in the middle"),
        (b"{}", "br", "Content-Encoding: gzip or deflate"),
        (b"{}", "gzip, gzip", "Content-Encoding: gzip or deflate"),
    ],
)
async def test_what_is_not_in_its_encoding_is_refused(
    body: bytes, encoding: str, said: str
) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        await read_body(sent(body), 100, encoding, BOTH)


async def test_a_client_that_leaves_is_told_apart_from_the_end_of_a_body() -> None:
    with pytest.raises(ClientDisconnect):
        await read_body(sent(b"ab", leaves=True), 4)


@pytest.mark.parametrize(
    ("accepted", "wanted"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("br, deflate, GZIP;q=0.5", "gzip"),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip; q=0.0", ""),
        ("*", "gzip"),
        ("gzip;q=0, *", "deflate"),
        ("br", ""),
        ("", ""),
    ],
)
def test_the_first_encoding_that_a_client_takes_is_wanted(accepted: str, wanted: str) -> None:
    assert wanted_encoding(accepted, BOTH) == wanted


@pytest.mark.parametrize("body", [b"[]," * 600, b"[" * 1_001, b'{"a":' * 1_001, b"1," * 1_001])
def test_a_body_of_many_values_is_refused(body: bytes) -> None:
    with pytest.raises(TooLargeError, match="of which at most 1000 are taken; send less") as error:
        refuse_many_values(body, 1_000, "send less")
    assert error.value.code == "too_many_values"


@pytest.mark.parametrize("body", [b"", b"x" * 5_000, b"[]," * 500])
def test_a_body_of_few_values_passes(body: bytes) -> None:
    refuse_many_values(body, 1_000, "send less")
