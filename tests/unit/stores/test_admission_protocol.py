import re
from importlib.resources import files

import pytest

from slipstream.stores import admission_protocol
from slipstream.stores.admission_protocol import (
    DONE,
    FIRST,
    LIMITED,
    PENDING,
    UNCHECKED,
    AdmissionCall,
    AdmissionQuery,
    AdmissionVerdict,
)

QUERIES = [AdmissionQuery("shop", ["m1", None, "m2", None], ["u", "u", None, None])]


def call_of(queries: list[AdmissionQuery], *, sources: bool, visitors: bool) -> AdmissionCall:
    return AdmissionCall(queries, "p:", limits_sources=sources, limits_visitors=visitors)


def test_python_and_lua_have_the_same_codes_by_the_same_names() -> None:
    lua = files("slipstream.stores").joinpath("admit.lua").read_text()
    in_lua = dict(re.findall(r"^local ([A-Z_]+) = '(.)'$", lua, re.MULTILINE))
    in_python = {
        name: value.decode() if isinstance(value, bytes) else chr(value)
        for name, value in vars(admission_protocol).items()
        if name.isupper()
    }
    assert in_lua == in_python
    unused = [name for name in in_lua if len(re.findall(rf"\b{name}\b", lua)) < 2]
    assert unused == []


def test_no_code_of_the_script_stands_unnamed() -> None:
    lua = files("slipstream.stores").joinpath("admit.lua").read_text()
    unnamed = [
        line
        for line in lua.splitlines()
        if re.search(r"'[^01']'", line) and not re.match(r"local [A-Z_]+ = '.'$", line)
    ]
    assert unnamed == []


@pytest.mark.parametrize(
    ("sources", "visitors", "plan", "keys", "events"),
    [
        (False, False, b"Rinin", ["m1", "m2"], []),
        (True, False, b"Kinin", ["p:s:shop", "m1", "m2"], [4]),
        (True, True, b"Kbvin", ["p:s:shop", "m1", "p:v:u", "p:v:u", "m2"], [4]),
    ],
)
def test_call_has_a_code_for_each_request_and_message_and_their_keys(
    sources: bool, visitors: bool, plan: bytes, keys: list[str], events: list[int]
) -> None:
    call = call_of(QUERIES, sources=sources, visitors=visitors)
    assert (call.plan, call.keys, call.events) == (plan, keys, events)


def test_answer_is_read_as_a_verdict_on_each_query() -> None:
    queries = [
        AdmissionQuery("s", ["a", None, "b"], [None] * 3),
        AdmissionQuery("t", ["c"], [None]),
    ]
    call = call_of(queries, sources=True, visitors=False)
    assert call.verdicts([b"+fdr-.", 250]) == [
        AdmissionVerdict(bytes((FIRST, DONE, LIMITED))),
        AdmissionVerdict(bytes((UNCHECKED,)), 250),
    ]


def test_without_an_answer_every_id_is_pending() -> None:
    call = call_of(QUERIES, sources=True, visitors=True)
    assert call.verdicts(None) == [
        AdmissionVerdict(bytes((PENDING, UNCHECKED, PENDING, UNCHECKED)))
    ]
