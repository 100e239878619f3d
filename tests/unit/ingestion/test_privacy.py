"""Personal fields and addresses are dropped, hashed and shortened, and nothing else changes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingestion.privacy import Privacy, truncated, without_write_keys


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("203.0.113.77", "203.0.113.0"),
        ("2001:db8:1234:5678:9abc:def0:1234:5678", "2001:db8:1234::"),
        ("[2001:db8:1234:5678::1]", "2001:db8:1234::"),
        ("fe80::1%eth0", "fe80::"),
        ("::ffff:203.0.113.77", "::ffff:203.0.113.0"),
        ("203.0.113.77:8080", "203.0.113.0:8080"),
        ("203.0.113.77, 2001:db8:1:2::3", "203.0.113.0, 2001:db8:1::"),
        ("unknown", "unknown"),
    ],
)
def test_address_is_kept_without_its_last_part(address: str, kept: str) -> None:
    assert truncated(address) == kept


@given(st.ip_addresses().map(str))
def test_shortening_an_address_twice_changes_nothing_more(address: str) -> None:
    assert truncated(truncated(address)) == truncated(address)


def test_fields_match_at_any_depth_and_paths_where_their_keys_follow_one_another() -> None:
    privacy = Privacy(drop=["phone", "address.street"], hashed=["email"], key="pepper")
    fields = {
        "phone": 1,
        "street": "kept",
        "address": {"street": "gone", "country": "NZ"},
        "guests": [{"phone": 2, "name": "B", "address": [{"street": "gone"}]}],
        "email": None,
    }
    assert privacy.published(fields) == {
        "street": "kept",
        "address": {"country": "NZ"},
        "guests": [{"name": "B", "address": [{}]}],
        "email": None,
    }
    assert fields["phone"] == 1


def test_equal_values_have_equal_hashes_and_another_key_other_ones() -> None:
    def hashed(value: Any, key: str = "pepper") -> Any:
        return Privacy(hashed=["email"], key=key).published({"email": value})["email"]

    assert hashed("a@b") == hashed("a@b") != hashed("a@c")
    assert hashed("a@b") != hashed("a@b", "salt")
    assert hashed(["a@b", None]) == [hashed("a@b"), None]
    assert len({hashed(value) for value in ("1", "x", {"a": 1}, {"a": 2}, 7.5)}) == 5
    assert hashed({"a": 1, "b": 2}) == hashed({"b": 2, "a": 1})


def test_what_has_nothing_to_hide_is_the_same_object() -> None:
    fields = {"sku": "a"}
    assert Privacy().published(fields) is fields
    whole = {"ip": "203.0.113.77"}
    assert Privacy(truncate_ip=False).published(whole) is whole


def named(value: Any, names: set[str]) -> list[Any]:
    """The values under these keys, at any depth."""
    if isinstance(value, dict):
        own = [inner for key, inner in value.items() if key in names]
        return own + named([*value.values()], names)
    return (
        [found for inner in value for found in named(inner, names)]
        if isinstance(value, list)
        else []
    )


places = st.recursive(
    st.just(1) | st.just("203.0.113.77"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "ip", "writeKey", "context"]), inner, max_size=3)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["b", "ip", "writeKey", "context"]), places), st.booleans())
def test_without_any_rule_no_write_key_and_no_whole_address_is_published(
    fields: dict[str, Any], rule: bool
) -> None:
    published = Privacy(drop=["b"] if rule else []).published(fields)
    assert not named(published, {"writeKey"})
    for address in named(published, {"ip"}):
        while isinstance(address, list) and address:
            address = address[0]
        assert address != "203.0.113.77"
    assert not named(without_write_keys(fields), {"writeKey"})
    assert len(named(without_write_keys({"a": fields}), {"ip"})) >= len(named(published, {"ip"}))


def test_addresses_are_shortened_where_segment_clients_put_them() -> None:
    published = Privacy().published(
        {
            "context": {"ip": "203.0.113.77", "device": {"ip": "unknown"}},
            "hops": [{"ip": ["203.0.113.77", "2001:db8:1:2::3", ["198.51.100.9"]]}],
        }
    )
    assert published == {
        "context": {"ip": "203.0.113.0", "device": {"ip": "unknown"}},
        "hops": [{"ip": ["203.0.113.0", "2001:db8:1::", ["198.51.100.0"]]}],
    }


def test_original_is_kept_without_write_key_however_deep() -> None:
    deep: Any = "bottom"
    for _ in range(2_000):
        deep = {"in": [deep]}
    kept = Privacy().original({"writeKey": "k", "batch": [{"writeKey": "k", "deep": deep}]})
    assert kept["batch"][0].keys() == {"deep"}
    levels = 0
    inner = kept["batch"][0]["deep"]
    while inner != "bottom":
        inner, levels = inner["in"][0], levels + 1
    assert levels == 2_000


@pytest.mark.parametrize("settings", [{"hashed": ["email"]}, {"drop": ["a..b"]}, {"drop": [".a"]}])
def test_settings_that_make_no_sense_are_refused(settings: Any) -> None:
    with pytest.raises(ValueError):
        Privacy(**settings)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text("ab", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=20,
)


def without(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {key: without(inner, name) for key, inner in value.items() if key != name}
    return [without(inner, name) for inner in value] if isinstance(value, list) else value


@given(st.dictionaries(st.sampled_from("abc"), json_values))
def test_dropping_a_name_leaves_everything_else(fields: dict[str, Any]) -> None:
    assert Privacy(drop=["b"]).published(fields) == without(fields, "b")
    assert Privacy(drop=["z"]).original(fields) == fields
