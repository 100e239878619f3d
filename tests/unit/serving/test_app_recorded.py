"""Any request is answered and recorded as at the commit whose answers are in `answers.jsonl.xz`."""

import asyncio
import json
import lzma
import math
from typing import Any

import pytest

from tests.unit.serving.recorded.asking import answers
from tests.unit.serving.recorded.record import PATH
from tests.unit.serving.recorded.scenes import NAMES, scene

# Scores of one model may differ in their last digits between processors, and so may shares near 0.
_SAME = 1e-5


def _pairs(text: str) -> Any:
    """A document with its objects as lists of pairs, since order counts; the text of any other."""
    try:
        return json.loads(text, object_pairs_hook=list)
    except ValueError:
        return text


def _differs(one: Any, other: Any) -> bool:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) != len(other) or any(map(_differs, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return not math.isclose(one, other, rel_tol=_SAME, abs_tol=_SAME / 10)
    return bool(one != other)


@pytest.fixture(scope="module")
def recorded() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for line in lzma.decompress(PATH.read_bytes()).splitlines():
        each = json.loads(line)
        found.setdefault(each["scene"], []).append(each)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_request_is_answered_and_recorded_as_before(
    name: str, recorded: dict[str, list[dict[str, Any]]]
) -> None:
    now = asyncio.run(answers(scene(name)))
    assert len(now) == len(recorded[name]) > 100
    for one, other in zip(recorded[name], now, strict=True):
        assert other["request"] == one["request"]
        assert (other["status"], other["headers"]) == (one["status"], one["headers"]), one
        for was, has in (
            (one["body"], other["body"]),
            *zip(one["slates"], other["slates"], strict=True),
        ):
            if was != has:
                assert not _differs(_pairs(was), _pairs(has)), (one["request"], was, has)
