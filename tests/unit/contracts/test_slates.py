"""A slate is read as pydantic reads it, or refused for the reason that pydantic gives."""

import json
import subprocess
import sys
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slipstream.broker.records import MalformedRecordError, decode, encode, read
from slipstream.contracts import slates as module
from slipstream.contracts.events import Slate, SlateItem
from slipstream.contracts.slates import RecordedSlate, given_at, new_recommendation_id, read_slate
from slipstream.contracts.topics import RECOMMENDATIONS


def test_an_id_is_a_uuid_of_version_7_that_tells_its_time() -> None:
    given = new_recommendation_id(1_795_826_219_233)
    parsed = uuid.UUID(given)
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert given_at(given) == 1_795_826_219_233
    assert new_recommendation_id(1_795_826_219_233) != given


def test_a_forked_process_gives_other_ids() -> None:
    code = """
import os
from slipstream.contracts.slates import new_recommendation_id
new_recommendation_id(0)
child = os.fork()
os.write(1, f"{new_recommendation_id(0)}\\n".encode())
if child:
    os.waitpid(child, 0)
"""
    given = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    one, other = given.stdout.split()
    assert one != other


def test_ids_are_in_the_order_of_their_times() -> None:
    assert sorted(map(new_recommendation_id, (3_000, 2_000, 1_000)))[0].startswith("0000000003e8")


@pytest.mark.parametrize(
    "text", ["", "a", "c285e0d08c1c4d4c88516a268cccd5b0", "01a21f9578e17" + "x" * 19]
)
def test_other_texts_tell_no_time(text: str) -> None:
    assert given_at(text) is None


SAMPLE = Path(__file__).parents[2] / "contract" / "samples" / "recommendations.v1.json"
PLAIN = {
    "recommendation_id": "r",
    "user_id": "u",
    "timestamp": 1,
    "items": [{"item_id": "i", "score": 0.5, "source": "rules"}],
    "answered_by": "model",
}

_numbers = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, 1, 1.0, 253e12, 1e308])
_texts = st.text(max_size=4) | st.sampled_from(
    ["", "a\x00", "é" * 64, "é" * 65, "a" * 256, "a" * 257]
)
_scalars = st.none() | st.booleans() | _numbers | _texts
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)
_items = st.fixed_dictionaries(
    {"item_id": _texts, "score": _numbers, "source": _texts}, optional={"more": _values}
)
# Of each field the right type as a rule, and at times anything.
_fields: dict[str, st.SearchStrategy[Any]] = {
    "recommendation_id": _texts,
    "user_id": _texts,
    "timestamp": _numbers,
    "items": st.lists(_items, max_size=3),
    "answered_by": _texts,
    "model_version": st.none() | _texts,
    "experiment": _texts,
    "variant": _texts,
    "placement": _texts,
    "placement_revision": _numbers,
    "rules": st.lists(st.lists(_texts, max_size=2), max_size=2),
    "propensities": st.lists(_numbers, max_size=2),
    "sampled": st.booleans(),
    "features": st.dictionaries(_texts, _numbers, max_size=2),
    "latency_ms": _numbers,
    "purpose": _texts,
    "circumstances": st.dictionaries(_texts, _values, max_size=3),
    "substituted": _texts,
    "shadow_of": _texts,
    "of_a_later_version": _values,
}


@st.composite
def _records(draw: st.DrawFn) -> dict[str, Any]:
    record: dict[str, Any] = dict(PLAIN)
    for name in draw(st.lists(st.sampled_from(sorted(_fields)), max_size=6, unique=True)):
        record[name] = draw(_fields[name] | _values if draw(st.booleans()) else _fields[name])
    if draw(st.integers(0, 9)) == 0:
        record.pop(draw(st.sampled_from(sorted(record))))
    return record


def _as_dict(slate: Slate | RecordedSlate) -> dict[str, Any]:
    fields = {name: getattr(slate, name) for name in Slate.model_fields if name != "circumstances"}
    return fields | {"items": [asdict(item) for item in slate.items]}


@settings(deadline=None, max_examples=400)
@given(_records().map(lambda record: json.dumps(record).encode()) | st.binary(max_size=40))
@example(b"")
@example(b'{"recommendation_id":"r"}')
@example(json.dumps(PLAIN | {"circumstances": {"a": "\ud800"}}).encode())
@example(json.dumps(PLAIN).replace('"u"', '"\\ud800"').encode())
@example(json.dumps(PLAIN | {"circumstances": {"a": "x"}}).encode().replace(b"x", b"\xff"))
@example(json.dumps(PLAIN | {"circumstances": [1]}).encode())
@example(json.dumps(PLAIN | {"circumstances": None}).encode())
@example(json.dumps(PLAIN | {"circumstances": {"deep": float("nan")}}).encode())
@example(json.dumps(PLAIN | {"latency_ms": float("inf")}).encode())
@example(json.dumps(PLAIN | {"timestamp": "7", "latency_ms": "1.5"}).encode())
@example(json.dumps(PLAIN).encode() + b" x")
def test_a_slate_is_read_as_pydantic_reads_it(value: bytes) -> None:
    try:
        expected = decode(RECOMMENDATIONS, value)
    except MalformedRecordError as error:
        with pytest.raises(MalformedRecordError) as refused:
            read(RECOMMENDATIONS, value)
        assert str(refused.value) == str(error)
        return
    slate = read(RECOMMENDATIONS, value)
    assert isinstance(expected, Slate)
    assert _as_dict(slate) == _as_dict(expected)
    kept = json.loads(slate.circumstances_json or "{}")
    assert kept == json.loads(expected.model_dump_json(include={"circumstances"}))["circumstances"]


def test_a_slate_of_serving_does_not_take_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Slate", None)
    slate = Slate(
        **PLAIN | {"items": [SlateItem("i", 0.5, "rules")]},
        features={"views": 3.0},
        circumstances={"form": 1, "history": {"items": ["é"]}},
    )  # fmt: skip
    read_back = read_slate(encode(slate))
    assert _as_dict(read_back) == _as_dict(slate)
    assert orjson.loads(read_back.circumstances_json) == slate.circumstances
    assert read_slate(orjson.dumps(PLAIN)).circumstances_json == ""
    assert read_slate(SAMPLE.read_bytes()).purpose == "ranked"


def test_a_recorded_slate_has_the_fields_of_a_slate_with_their_defaults() -> None:
    of_defaults = read_slate(orjson.dumps(PLAIN))
    assert RecordedSlate.__struct_fields__ == tuple(Slate.model_fields)
    assert _as_dict(of_defaults) == _as_dict(Slate.model_validate(PLAIN))
