"""Sessions: which requests count as those of their pages, and when they end."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.chassis.access.keys import KeyRing, KnownKey
from slipstream.chassis.access.sessions import (
    LENGTH_MS,
    MOST_SESSIONS,
    PLAIN_COOKIE,
    SECURE_COOKIE,
    Sessions,
    is_secure,
    refusal_of_page,
    secret_of,
)
from slipstream.chassis.access.tokens import signed
from slipstream.chassis.access.verifier import Verifier, api_token_key
from slipstream.chassis.settings import AccessSettings, HttpSettings, ServiceSettings
from slipstream.contracts.access import Principal, Scope
from tests.unit.chassis.access.key_records import key_record

SECRET = "of-thirty-two-bytes-or-even-more!"
ADA = KnownKey(Principal("ada", frozenset({Scope.READ}), browser=False))


def request(*, scheme: str = "http", **headers: str) -> dict[str, Any]:
    """A connection with these headers, to 127.0.0.1:8005 unless they say otherwise."""
    named = {"host": "127.0.0.1:8005"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return {
        "type": "http",
        "scheme": scheme,
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
    }


def verifier(ring: KeyRing | None = None, **access: str) -> Verifier:
    settings = ServiceSettings(
        http=HttpSettings(api_token="s3cret"),  # type: ignore[arg-type]
        access=AccessSettings(**access),  # type: ignore[arg-type]
    )
    return Verifier(ring or KeyRing(api_token_key(settings)), settings)


OWN = "http://127.0.0.1:8005"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": OWN},
        {"origin": OWN, "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "same-origin"},
        {"referer": f"{OWN}/live?topic=x"},
        # A proxy ends TLS: the browser has compared the scheme.
        {"origin": "https://127.0.0.1:8005", "sec_fetch_site": "same-origin"},
    ],
)
def test_a_page_of_this_origin_may_send_a_request_by_session(headers: dict[str, str]) -> None:
    assert refusal_of_page(request(**headers)) is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://127.0.0.1:8004"},
        {"origin": "http://127.0.0.1"},
        {"origin": "https://127.0.0.1:8005"},
        {"origin": "http://localhost:8005"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://[127.0.0.1:8005"},
        {"origin": "http://evil.example", "sec_fetch_site": "same-origin"},
        {"origin": OWN, "sec_fetch_site": "same-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "none"},
        {"referer": "http://127.0.0.1:8004/live"},
        {"referer": "https://127.0.0.1:8005/"},
        {"referer": f"{OWN}/", "origin": "http://127.0.0.1:8004"},
        {"origin": OWN, "host": "shop.example"},
    ],
)
def test_no_other_may(headers: dict[str, str]) -> None:
    refusal = refusal_of_page(request(**headers))
    assert refusal is not None and (refusal.status, refusal.code) == (403, "foreign_origin")


def test_over_tls_only_the_cookie_of_this_host_counts() -> None:
    both = f"x=1; {PLAIN_COOKIE}=planted; {SECURE_COOKIE}=own"
    for scheme, cookie, secret in (
        ("https", both, "own"),
        ("http", both, "own"),
        ("http", f"{PLAIN_COOKIE}=plain", "plain"),
        ("https", f"{PLAIN_COOKIE}=planted", ""),
        ("http", "x=1", ""),
    ):
        assert secret_of(request(scheme=scheme, cookie=cookie)) == secret


def test_tls_shows_in_the_scheme_or_in_the_pages_origin() -> None:
    assert is_secure(request(scheme="https"))
    assert is_secure(request(origin="https://shop.example"))
    assert not is_secure(request(origin=OWN))


def test_a_session_ends_after_twelve_hours_and_with_its_token() -> None:
    now = [1_000_000]
    sessions, judge = Sessions(lambda: now[0]), verifier()
    mark = judge.mark_of("s3cret")
    secret, session = sessions.make(mark, ADA)
    sessions.add(session)
    assert session.ends_at == now[0] + LENGTH_MS
    short = sessions.make(mark, ADA._replace(ends_at=now[0] + 5))[1]
    assert short.ends_at == now[0] + 5
    now[0] += LENGTH_MS - 1
    assert sessions.find(secret, judge) is not None
    now[0] += 1
    assert sessions.find(secret, judge) is None


def test_a_session_is_of_its_key_as_that_is_now_and_ends_with_it() -> None:
    sessions, ring = Sessions(), KeyRing()
    ring.take(key_record("key", ["read", "operate"]))
    judge = verifier(ring)
    found = judge.find("key")
    assert found is not None
    secret, session = sessions.make(judge.mark_of("key"), found)
    sessions.add(session)
    known = sessions.find(secret, judge)
    assert known is not None and known[1].principal == found.principal
    ring.take(key_record("key", ["read", "operate"], revoked_at=2))
    assert sessions.find(secret, judge) is None


def test_a_session_ends_when_the_api_token_is_another_one() -> None:
    sessions, judge = Sessions(), verifier()
    secret, session = sessions.make(judge.mark_of("s3cret"), ADA)
    sessions.add(session)
    assert sessions.find(secret, judge) is not None
    assert sessions.find(secret, verifier(KeyRing())) is None


def test_a_session_of_a_token_ends_when_nothing_verifies_the_token_any_more() -> None:
    access = AccessSettings(token_secret=SECRET)  # type: ignore[arg-type]
    token = signed(access, "ada", [Scope.READ], 60)
    sessions, judge = Sessions(), verifier(token_secret=SECRET)
    known = judge.find(token)
    assert known is not None
    mark = judge.mark_of(token)
    assert SECRET not in mark
    secret, session = sessions.make(mark, known)
    sessions.add(session)
    assert session.ends_at == known.ends_at
    found = sessions.find(secret, judge)
    assert found is not None and found[1].principal.name == "ada"
    for other in (
        verifier(token_secret=SECRET[::-1]),
        verifier(token_secret=SECRET, token_audience="another"),
        verifier(),
    ):
        assert sessions.find(secret, other) is None


def test_a_request_with_a_session_that_is_not_known_says_so() -> None:
    sessions, ring = Sessions(), KeyRing()
    cookie = f"{PLAIN_COOKIE}=nothing"
    assert sessions.of(request(), verifier()) is None
    ended = sessions.of(request(cookie=cookie, origin=OWN), verifier(ring))
    assert getattr(ended, "code", "") == "session_ended"
    ring.loading = True
    waits = sessions.of(request(cookie=cookie, origin=OWN), verifier(ring))
    assert getattr(waits, "code", "") == "keys_loading"
    foreign = sessions.of(request(cookie=cookie, origin="http://evil.example"), verifier(ring))
    assert getattr(foreign, "code", "") == "foreign_origin"


def test_what_was_kept_is_found_again_and_no_secret_is_kept() -> None:
    before, after, judge = Sessions(), Sessions(), verifier()
    secret, session = before.make(judge.mark_of("s3cret"), ADA)
    assert secret not in str(session) and len(secret) == 43
    after.restore([session])
    assert after.find(secret, judge) is not None
    after.end(secret)
    assert after.find(secret, judge) is None


@given(st.lists(st.integers(0, 10), max_size=30), st.integers(1, 5))
def test_the_oldest_sessions_give_way(starts: list[int], most: int) -> None:
    sessions, kept = Sessions(lambda: 0), dict[str, int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slipstream.chassis.access.sessions.MOST_SESSIONS", most)
        for _ in starts:
            session = sessions.make("key:", ADA)[1]
            kept[session.digest] = 1
            for digest in sessions.add(session):
                del kept[digest]
    assert set(kept) == set(sessions._kept)
    assert len(kept) == min(len(starts), most) <= MOST_SESSIONS


@given(st.lists(st.sampled_from("ab"), max_size=30), st.integers(1, 4))
def test_sessions_of_one_credential_end_none_of_another(marks: list[str], most: int) -> None:
    sessions, kept = Sessions(lambda: 0), dict[str, str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slipstream.chassis.access.sessions.MOST_OF_ONE", most)
        for mark in marks:
            session = sessions.make(mark, ADA)[1]
            kept[session.digest] = mark
            for digest in sessions.add(session):
                assert kept.pop(digest) == mark
    left = [*kept.values()]
    assert all(left.count(mark) == min(marks.count(mark), most) for mark in "ab")
