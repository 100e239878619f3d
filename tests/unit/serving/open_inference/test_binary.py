import struct
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.serving.open_inference import binary
from slipstream.chassis.errors import InvalidRequestError

strings = st.lists(st.text(max_size=20), max_size=8)


@given(strings)
def test_strings_come_back_as_they_were(values: list[str]) -> None:
    assert binary.decode_strings(binary.encode("BYTES", values), 8) == values


@given(st.binary(max_size=60))
def test_any_bytes_are_strings_or_are_refused(data: bytes) -> None:
    try:
        values = binary.decode_strings(data, 4)
    except InvalidRequestError:
        return
    assert binary.encode("BYTES", values) == data


def test_a_string_is_its_length_in_little_endian_and_its_bytes() -> None:
    assert binary.encode("BYTES", ["ä", ""]) == b"\x02\0\0\0\xc3\xa4\0\0\0\0"
    assert binary.encode("FP32", [1.5]) == struct.pack("<f", 1.5)


@pytest.mark.parametrize(
    "data", [b"\x01", b"\x01\0\0\0", b"\xff\xff\xff\xffx", b"\x01\0\0\0\xff", b"\0\0\0\0" * 5]
)
def test_what_is_no_tensor_of_strings_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        binary.decode_strings(data, 4)


def test_values_are_counted_before_they_are_read() -> None:
    with pytest.raises(InvalidRequestError, match="more than 4 values"):
        binary.decode_strings(b"\0\0\0\0" * 4 + b"\x01\0\0\0\xff", 4)


@pytest.mark.parametrize("json_length", ["", "-1", "x", "5", "1e0", "٣", "9" * 10_000, "1_0"])
def test_a_header_that_is_no_length_within_the_body_is_refused(json_length: str) -> None:
    with pytest.raises(InvalidRequestError, match="no length within the 4 bytes"):
        binary.split(b"{}ab", json_length)


def test_the_header_says_where_the_json_ends() -> None:
    assert binary.split(b"{}ab", "2") == (b"{}", b"ab")
    assert binary.split(b"{}", None) == (b"{}", b"")


@pytest.mark.parametrize("sizes", [[], [1], [3, 2], [-1, 5], [True, 3], ["4"], [4.0], [None]])
def test_sizes_that_do_not_cover_the_bytes_are_refused(sizes: list[Any]) -> None:
    with pytest.raises(InvalidRequestError):
        binary.portions(sizes, b"abcd")


def test_each_tensor_gets_its_portion() -> None:
    assert binary.portions([3, 0, 1], b"abcd") == [b"abc", b"", b"d"]


@given(
    strings,
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=8),
    st.sets(st.sampled_from(["a", "b"])),
)
def test_an_answer_holds_each_tensor_once(
    items: list[str], scores: list[float], in_binary: set[str]
) -> None:
    """Read as the clients read it: the JSON, then the bytes of each tensor in turn."""
    outputs = [
        {"name": "a", "datatype": "BYTES", "shape": [len(items)], "data": items},
        {"name": "b", "datatype": "FP32", "shape": [len(scores)], "data": scores},
    ]
    body, length = binary.joined({"id": "1", "outputs": outputs}, in_binary)
    assert (length is None) == (not in_binary)
    answer, at = orjson.loads(body[:length]), length or len(body)
    assert answer["id"] == "1"
    for output, given_output in zip(answer["outputs"], outputs, strict=True):
        values: Any = output.get("data")
        if output["name"] in in_binary:
            size = output["parameters"]["binary_data_size"]
            assert values is None
            part, at = body[at : at + size], at + size
            is_text = output["datatype"] == "BYTES"
            values = (
                binary.decode_strings(part, 8) if is_text else np.frombuffer(part, "<f4").tolist()
            )
        assert values == given_output["data"]
    assert at == len(body)
