import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from slipstream.chassis.bodies import read_body, refuse_many_values, takes_gzip
from slipstream.chassis.errors import InvalidRequestError, TooLargeError


def sent(*chunks: bytes, leaves: bool = False) -> Request:
    """A request whose body arrives in these chunks, and whose client may leave before its end."""
    messages: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks
    ]
    messages.append({"type": "http.disconnect"} if leaves else {"type": "http.request"})

    async def receive() -> Message:
        return messages.pop(0)

    return Request({"type": "http", "headers": []}, receive)


@given(st.binary(max_size=200))
async def test_what_is_packed_is_read_again(body: bytes) -> None:
    data = gzip.compress(body, mtime=0)
    assert await read_body(sent(data[:3], data[3:]), 200, "gzip") == body


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
        (gzip.compress(b"{}", mtime=0)[:-1], "gzip", "ends in the middle"),
        (b"{}", "br", "Content-Encoding: gzip"),
        (b"{}", "deflate", "Content-Encoding: gzip"),
        (b"{}", "gzip, gzip", "Content-Encoding: gzip"),
    ],
)
async def test_what_is_not_in_its_encoding_is_refused(
    body: bytes, encoding: str, said: str
) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        await read_body(sent(body), 100, encoding)


async def test_a_client_that_leaves_is_told_apart_from_the_end_of_a_body() -> None:
    with pytest.raises(ClientDisconnect):
        await read_body(sent(b"ab", leaves=True), 4)


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [
        ("gzip", True),
        ("br, deflate, GZIP;q=0.5", True),
        ("gzip;q=0, deflate", False),
        ("gzip; q=0.0", False),
        ("*", True),
        ("gzip;q=0, *", False),
        ("br", False),
        ("", False),
    ],
)
def test_gzip_is_taken_where_a_client_says_so(accepted: str, taken: bool) -> None:
    assert takes_gzip(accepted) is taken


@pytest.mark.parametrize("body", [b"[]," * 600, b"[" * 1_001, b'{"a":' * 1_001, b"1," * 1_001])
def test_a_body_of_many_values_is_refused(body: bytes) -> None:
    with pytest.raises(TooLargeError, match="of which at most 1000 are taken; send less") as error:
        refuse_many_values(body, 1_000, "send less")
    assert error.value.code == "too_many_values"


@pytest.mark.parametrize("body", [b"", b"x" * 5_000, b"[]," * 500])
def test_a_body_of_few_values_passes(body: bytes) -> None:
    refuse_many_values(body, 1_000, "send less")
