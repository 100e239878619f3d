import re
from importlib.resources import files

import pytest

from slipstream.stores import admission_store
from slipstream.stores.admission_store import (
    DONE,
    FIRST,
    LIMITED,
    PENDING,
    UNCHECKED,
    AdmissionCall,
    AdmissionQuery,
    AdmissionVerdict,
    PageMessage,
    Rate,
    Rates,
    digest,
)

KEY, VISITOR = Rate(100.0, 50), Rate(10.0, 5)


def query_of(rates: Rates) -> AdmissionQuery:
    return AdmissionQuery(
        "shop", ["m1", None, "m2", None], ["u", "u", None, None], [1, 7, 3, 1], rates
    )


def test_python_and_lua_have_the_same_codes_by_the_same_names() -> None:
    lua = files("slipstream.stores").joinpath("admit.lua").read_text()
    in_lua = dict(re.findall(r"^local ([A-Z_]+) = '(.)'$", lua, re.MULTILINE))
    in_python = {
        name: value.decode() if isinstance(value, bytes) else chr(value)
        for name, value in vars(admission_store).items()
        if name.isupper() and (isinstance(value, bytes) or (type(value) is int and value < 128))
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
    ("rates", "plan", "keys", "charges"),
    [
        (Rates(), b"Rinin", ["m1", "m2"], []),
        (Rates(KEY), b"Kinin", ["p:s:shop", "m1", "m2"], [12, 10, 50]),
        (
            Rates(KEY, VISITOR),
            b"Kbvin",
            ["p:s:shop", "m1", f"p:v:{digest('u')}", f"p:v:{digest('u')}", "m2"],
            [12, 10, 50, 1, 100, 5, 7, 100, 5],
        ),
    ],
)
def test_call_has_a_code_for_each_request_and_message_their_keys_and_charges(
    rates: Rates, plan: bytes, keys: list[str], charges: list[float]
) -> None:
    call = AdmissionCall([query_of(rates)], "p:")
    assert (call.plan, call.keys, call.charges) == (plan, keys, charges)


def test_answer_is_read_as_a_verdict_on_each_query() -> None:
    queries = [
        AdmissionQuery("s", ["a", None, "b"], [None] * 3, rates=Rates(KEY)),
        AdmissionQuery("t", ["c"], [None], rates=Rates(KEY)),
        AdmissionQuery(
            "t", ["d"], [None], pages={0: PageMessage("v", [("a", 1), ("b", 3)], False)}
        ),
    ]
    call = AdmissionCall(queries, "p:")
    assert call.verdicts([b"+fdr-.+f", b"1u", 250]) == [
        AdmissionVerdict(bytes((FIRST, DONE, LIMITED))),
        AdmissionVerdict(bytes((UNCHECKED,)), 250),
        AdmissionVerdict(bytes((FIRST,)), learned=b"1u"),
    ]


def test_without_an_answer_every_id_is_pending() -> None:
    call = AdmissionCall([query_of(Rates(KEY, VISITOR))], "p:")
    assert call.verdicts(None) == [
        AdmissionVerdict(bytes((PENDING, UNCHECKED, PENDING, UNCHECKED)), counted=False)
    ]
