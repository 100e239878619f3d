"""The keys in memory: which count, and what they grant."""

from slipstream.chassis.access.keys import KeyRing, KnownKey, digest_of
from slipstream.contracts.access import Principal, Scope
from slipstream.contracts.times import now_ms
from tests.unit.chassis.access.key_records import key_record


def test_a_followed_key_counts_until_it_ends() -> None:
    ring = KeyRing()
    ring.take(key_record("one", ["events", "read"], origins=["https://shop.example"]))
    for name, ends in (("two", {"expires_at": 2}), ("three", {"revoked_at": 2})):
        ring.take(key_record(name, ["events"], **ends))
    ring.take(key_record("four", ["events"], expires_at=now_ms() + 60_000))
    found = ring.find("one")
    assert found is not None and found.origins == {"https://shop.example"}
    assert found.principal == Principal("one", frozenset({Scope.EVENTS, Scope.READ}), False)
    assert [ring.find(key) is not None for key in ("two", "three", "four")] == [False, False, True]
    ring.take(key_record("one", ["events"], revoked_at=now_ms()))
    assert ring.find("one") is None


def test_no_record_changes_a_configured_key() -> None:
    holder = Principal("shop", frozenset({Scope.EVENTS}), False)
    ring = KeyRing({digest_of("s3cret"): KnownKey(holder)})
    ring.take(key_record("s3cret", ["admin"], revoked_at=1))
    found = ring.find("s3cret")
    assert found is not None and found.principal == holder


def test_a_scope_of_a_later_version_grants_nothing() -> None:
    ring = KeyRing()
    ring.take(key_record("new", ["fly", "read"]))
    found = ring.find("new")
    assert found is not None and found.principal.scopes == {Scope.READ}


def test_keys_are_not_held_in_the_clear() -> None:
    ring = KeyRing()
    ring.take(key_record("s3cret", ["read"], name="shop"))
    assert "s3cret" not in repr(vars(ring))


def test_uses_of_followed_keys_are_noted_once() -> None:
    holder = Principal("shop", frozenset({Scope.EVENTS}), False)
    ring = KeyRing({digest_of("configured"): KnownKey(holder)})
    ring.take(key_record("one", ["read"]))
    ring.take(key_record("ended", ["read"], expires_at=2))
    for key in ("configured", "one", "ended", "unknown"):
        ring.find(key)
    assert set(ring.take_uses()) == {digest_of("one")}
    assert ring.take_uses() == {}
