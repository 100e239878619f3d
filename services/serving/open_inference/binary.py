"""The binary tensor extension: JSON, and after it the bytes of tensors that it announces.

Source: extension_binary_data.md of https://github.com/triton-inference-server/server. An element of
a BYTES tensor is its length, as 4 bytes, and its bytes. All numbers are little-endian.
"""

import struct
from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np
import orjson

from slipstream.chassis.errors import InvalidRequestError

# Parameter of a tensor that says how many bytes it has after the JSON.
SIZE: Final = "binary_data_size"
# The header that says where the JSON ends.
JSON_LENGTH: Final = "Inference-Header-Content-Length"
_LENGTH: Final = struct.Struct("<I")


def split(body: bytes, json_length: str | None) -> tuple[bytes, bytes]:
    """The JSON of a body, and the bytes of its tensors.

    Args:
        body: The body, unpacked.
        json_length: The header `Inference-Header-Content-Length`; without it all is JSON.

    Raises:
        InvalidRequestError: The header is no length within the body.
    """
    if json_length is None:
        return body, b""
    # No body has a length of more digits, and a long number would cost time.
    digits = json_length.strip()
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 20 or int(digits) > len(body):
        raise InvalidRequestError(f"{JSON_LENGTH} is no length within the {len(body)} bytes")
    return body[: int(digits)], body[int(digits) :]


def portions(sizes: Sequence[Any], data: bytes) -> list[bytes]:
    """The bytes of each tensor, which are one after the other.

    Args:
        sizes: The `binary_data_size` of each.
        data: The bytes of all.

    Raises:
        InvalidRequestError: A size is no size, or `data` has more or fewer bytes.
    """
    start, found = 0, []
    for size in sizes:
        if type(size) is not int or not 0 <= size <= len(data) - start:
            raise InvalidRequestError(
                f"{SIZE} is no number of the {len(data) - start} bytes that are left after the JSON"
            )
        found.append(data[start : start + size])
        start += size
    if start != len(data):
        raise InvalidRequestError(
            f"{len(data) - start} bytes after the JSON belong to no tensor; "
            f"{JSON_LENGTH} or {SIZE} is wrong"
        )
    return found


def decode_strings(data: bytes, most: int) -> list[str]:
    """The values of a BYTES tensor.

    Args:
        data: The tensor's bytes.
        most: Most values that are taken; more are not looked at.

    Raises:
        InvalidRequestError: The bytes are no such tensor, or a value is not UTF-8.
    """
    values: list[str] = []
    at = 0
    while at < len(data):
        if len(values) == most:
            raise InvalidRequestError(f"the tensor has more than {most} values")
        start = at + _LENGTH.size
        length = _LENGTH.unpack_from(data, at)[0] if start <= len(data) else 0
        at = start + length
        if at > len(data):
            raise InvalidRequestError(
                "a value of a BYTES tensor is its length, as 4 bytes, and its bytes"
            )
        try:
            values.append(data[start:at].decode())
        except UnicodeDecodeError as error:
            raise InvalidRequestError(f"a value is not UTF-8: {error}") from error
    return values


def encode(datatype: str, values: Sequence[Any]) -> bytes:
    """The bytes of a tensor of strings (BYTES) or of numbers (FP32)."""
    if datatype == "BYTES":
        encoded = [value.encode() for value in values]
        return b"".join(_LENGTH.pack(len(value)) + value for value in encoded)
    return np.asarray(values, "<f4").tobytes()


def joined(answer: dict[str, Any], in_binary: Collection[str]) -> tuple[bytes, int | None]:
    """The body of an answer.

    Args:
        answer: The message. All its `outputs` have `data`.
        in_binary: Names of the outputs with their data after the JSON.

    Returns:
        The bytes, and the length of the JSON where something follows it.
    """
    if not in_binary:
        return orjson.dumps(answer), None
    outputs, tail = [], []
    for output in answer["outputs"]:
        if output["name"] in in_binary:
            data = encode(output["datatype"], output["data"])
            tail.append(data)
            output = {key: value for key, value in output.items() if key != "data"}
            output["parameters"] = {SIZE: len(data)}
        outputs.append(output)
    head = orjson.dumps({**answer, "outputs": outputs})
    return b"".join([head, *tail]), len(head)
