"""Bodies with more values than they may have are refused before they are parsed."""

import pytest

from slipstream.chassis.bounded_json import refuse_many_values
from slipstream.chassis.errors import TooLargeError


@pytest.mark.parametrize("body", [b"[]," * 600, b"[" * 1_001, b'{"a":' * 1_001, b"1," * 1_001])
def test_a_body_of_many_values_is_refused(body: bytes) -> None:
    with pytest.raises(TooLargeError, match="of which at most 1000 are taken; send less") as error:
        refuse_many_values(body, 1_000, "send less")
    assert error.value.code == "too_many_values"


@pytest.mark.parametrize("body", [b"", b"x" * 5_000, b"[]," * 500])
def test_a_body_of_few_values_passes(body: bytes) -> None:
    refuse_many_values(body, 1_000, "send less")
