"""Claims of signed tokens: one of a wrong type or range has its token refused, and no more."""

import base64
import hmac
import json
import math
import time
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from slipstream.chassis.access.tokens import TokenVerifier
from tests.fuzzing import many
from tests.unit.chassis.access.test_tokens import SECRET, SHARED, claims, shared


def signed_json(payload: str, header: str = '{"alg":"HS256","typ":"JWT"}') -> str:
    """A token of any header and payload, signed with the shared secret."""
    message = b".".join(
        base64.urlsafe_b64encode(part.encode()).rstrip(b"=") for part in (header, payload)
    )
    digest = hmac.digest(SECRET.encode(), message, "sha256")
    return b".".join((message, base64.urlsafe_b64encode(digest).rstrip(b"="))).decode()


WRONG_CLAIMS: dict[str, tuple[Any, ...]] = {
    "scope": (5, True, {"read": 1}, [["read"]], ["read", 5]),
    "exp": (10**30, 1e300, math.inf, math.nan, True, "4000000000", [4 * 10**9], 253_402_300_800),
    "nbf": (-1, -(10**30), -math.inf, math.nan, False, "0", {}),
    "iat": (-1, -(10**30), -math.inf, math.nan, False, "0", {}),
    "sub": ("", 5, ["ada"], "x" * 257),
    "iss": (["slipstream"], {"slipstream": 1}, 5),
    "aud": ({"slipstream": 1}, ["slipstream", 5], 5),
}


@pytest.mark.parametrize(
    ("claim", "value"),
    [(claim, value) for claim, values in WRONG_CLAIMS.items() for value in values],
)
def test_a_claim_of_a_wrong_type_or_range_is_refused(claim: str, value: Any) -> None:
    token = signed_json(json.dumps(claims() | {claim: value}))
    assert TokenVerifier(SHARED).find(token) is None


@pytest.mark.parametrize("claim", WRONG_CLAIMS)
def test_a_claim_that_is_null_is_refused(claim: str) -> None:
    token = signed_json(json.dumps(claims() | {claim: None}))
    assert TokenVerifier(SHARED).find(token) is None


def test_a_refused_claim_is_named_in_the_log_without_its_value() -> None:
    with structlog.testing.capture_logs() as logged:
        TokenVerifier(SHARED).find(shared(sub="ada" * 100))
    (line,) = logged
    assert line["reason"].startswith("sub: ") and "ada" not in line["reason"]


def test_json_of_any_depth_is_refused() -> None:
    deep = "[" * 20_000 + "]" * 20_000
    verifier = TokenVerifier(SHARED)
    assert verifier.find(signed_json(deep)) is None
    assert verifier.find(signed_json("{}", header=deep)) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


def is_date(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 253_402_300_800


def is_text(value: Any) -> bool:
    return type(value) is str


RIGHT: dict[str, Callable[[Any], bool]] = {
    "iss": lambda iss: iss == "slipstream",
    "aud": lambda aud: (
        aud == "slipstream"
        or (type(aud) is list and "slipstream" in aud and all(map(is_text, aud)))
    ),
    "sub": lambda sub: is_text(sub) and 0 < len(sub) <= 256,
    "exp": lambda exp: is_date(exp) and exp > time.time() - 31,
    "nbf": lambda nbf: is_date(nbf) and nbf < time.time() + 31,
    "iat": lambda iat: is_date(iat) and iat < time.time() + 31,
    "scope": lambda scope: is_text(scope) or (type(scope) is list and all(map(is_text, scope))),
}


@many(400)
@given(
    st.dictionaries(
        st.sampled_from([*RIGHT]),
        JSON
        | st.sampled_from(["slipstream", "read", ["slipstream"], ["read"], 0, 4 * 10**9, 2.5e11])
        | st.floats(0, 1e12),
        min_size=1,
    )
)
def test_any_json_in_a_claim_is_refused_or_right(changed: dict[str, Any]) -> None:
    found = TokenVerifier(SHARED).find(signed_json(json.dumps(claims() | changed)))
    if found is not None:
        assert all(RIGHT[claim](value) for claim, value in changed.items()), changed
        assert found.principal.name == (claims() | changed)["sub"]
