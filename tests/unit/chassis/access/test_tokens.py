"""Signed tokens: by a shared secret and by public keys; whatever is not quite right is refused."""

import base64
import hmac
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm
from pydantic import ValidationError

from slipstream.chassis.access.tokens import TokenKeysError, TokenVerifier, service_credential
from slipstream.chassis.settings import AccessSettings, ServiceSettings
from slipstream.contracts.access import Principal, Scope
from tests.fuzzing import many
from tests.unit.chassis.test_app import an_app

SECRET = "of-thirty-two-bytes-or-even-more!"
SHARED = AccessSettings(token_secret=SECRET)  # type: ignore[arg-type]


def claims(**changed: Any) -> dict[str, Any]:
    right = {
        "iss": "slipstream",
        "aud": "slipstream",
        "sub": "ada",
        "scope": "read operate",
        "exp": int(time.time()) + 60,
    }
    return {name: value for name, value in (right | changed).items() if value is not None}


def shared(**changed: Any) -> str:
    return jwt.encode(claims(**changed), SECRET, "HS256")


def test_a_token_gives_its_subject_and_scopes() -> None:
    verifier = TokenVerifier(SHARED)
    for scope in ("read operate fly", ["read", "operate"]):
        found = verifier.find(shared(scope=scope))
        assert found is not None
        assert found.principal == Principal("ada", frozenset({Scope.READ, Scope.OPERATE}), False)
    unscoped = verifier.find(shared(scope=None))
    assert unscoped is not None and unscoped.principal.scopes == frozenset()


# Made by the test: one that was made at collection would have ended by then.
NOT_QUITE_RIGHT: dict[str, Callable[[], str]] = {
    "ended": lambda: shared(exp=int(time.time()) - 60),
    "without end": lambda: shared(exp=None),
    "another issuer": lambda: shared(iss="another"),
    "without issuer": lambda: shared(iss=None),
    "another audience": lambda: shared(aud="another"),
    "without audience": lambda: shared(aud=None),
    "without subject": lambda: shared(sub=None),
    "not yet valid": lambda: shared(nbf=int(time.time()) + 600),
    "another secret": lambda: jwt.encode(claims(), SECRET + "!", "HS256"),
    "another algorithm": lambda: jwt.encode(claims(), SECRET * 2, "HS512"),
    "unsigned": lambda: jwt.encode(claims(), None, "none"),
    "no JSON": lambda: "a.b.c",
    "empty": lambda: "..",
}


@pytest.mark.parametrize("token", NOT_QUITE_RIGHT.values(), ids=NOT_QUITE_RIGHT.keys())
def test_a_token_that_is_not_quite_right_is_refused(token: Callable[[], str]) -> None:
    assert TokenVerifier(SHARED).find(token()) is None


def test_a_remembered_token_ends_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier, token = TokenVerifier(SHARED), shared()
    assert verifier.find(token) is not None
    monkeypatch.setattr(jwt, "decode", lambda *_, **__: pytest.fail("verified again"))
    assert verifier.find(token) is not None
    later = int(time.time() * 1000) + 100_000
    monkeypatch.setattr("slipstream.chassis.access.tokens.now_ms", lambda: later)
    assert verifier.find(token) is None


def pem(key: Any) -> str:
    return str(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def test_a_key_on_a_curve_that_nothing_verifies_is_refused_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text(pem(ec.generate_private_key(ec.SECP384R1()).public_key()))
    with pytest.raises(TokenKeysError, match="take an RSA, P-256 or Ed25519 key"):
        TokenVerifier(AccessSettings(token_keys=str(path)))


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_key_in_pem_verifies_its_own_algorithm_alone(algorithm: str, tmp_path: Path) -> None:
    private = {
        "RS256": lambda: rsa.generate_private_key(65_537, 2_048),
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
    }[algorithm]()
    path = tmp_path / "key.pem"
    path.write_text(pem(private.public_key()))
    verifier = TokenVerifier(AccessSettings(token_keys=str(path)))
    assert verifier.find(jwt.encode(claims(), private, algorithm)) is not None
    # The classic confusion: the public key's text taken for a shared secret.
    with_public = jwt.api_jws.PyJWS()
    with_public._algorithms["HS256"].prepare_key = lambda key: key.encode()  # type: ignore[method-assign]
    forged = with_public.encode(json.dumps(claims()).encode(), path.read_text(), "HS256")
    assert verifier.find(forged) is None
    assert verifier.find(shared()) is None


def test_keys_of_a_jwks_are_told_by_name_and_read_again_when_the_file_changes(
    tmp_path: Path,
) -> None:
    path = tmp_path / "jwks.json"
    first, second = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
    one = ECAlgorithm.to_jwk(first.public_key(), as_dict=True) | {"kid": "one"}
    two = OKPAlgorithm.to_jwk(second.public_key(), as_dict=True) | {"kid": "two"}
    path.write_text(json.dumps({"keys": [one]}))
    verifier = TokenVerifier(AccessSettings(token_keys=str(path)))
    by_first = jwt.encode(claims(), first, "ES256", {"kid": "one"})
    by_second = jwt.encode(claims(), second, "EdDSA", {"kid": "two"})
    assert verifier.find(by_first) is not None and verifier.find(by_second) is None
    path.write_text("{")
    os.utime(path, ns=(1, 1))
    assert verifier.find(by_second) is None and verifier.find(by_first) is not None
    path.write_text(json.dumps({"keys": [one, two]}))
    os.utime(path, ns=(2, 2))
    assert verifier.find(by_second) is not None
    wrong_name = jwt.encode(claims(), second, "EdDSA", {"kid": "one"})
    assert verifier.find(wrong_name) is None


@pytest.mark.parametrize("form", ["pem", "jwks"])
def test_a_key_that_was_replaced_verifies_nothing_any_more(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def text_of(key: ec.EllipticCurvePrivateKey) -> str:
        jwk = ECAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": "one"}
        return pem(key.public_key()) if form == "pem" else json.dumps({"keys": [jwk]})

    path = tmp_path / "keys"
    old, new = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    path.write_text(text_of(old))
    verifier = TokenVerifier(AccessSettings(token_keys=str(path)))
    by_old, by_new = (jwt.encode(claims(), key, "ES256") for key in (old, new))
    assert verifier.find(by_old) is not None and verifier.find(by_new) is None
    path.write_text(text_of(new))
    os.utime(path, ns=(1, 1))
    monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic(): now + 6)
    assert verifier.find(by_old) is None and verifier.find(by_new) is not None
    path.unlink()
    monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic(): now + 6)
    assert verifier.find(by_new) is not None


@pytest.mark.parametrize("text", ["", "{}", '{"keys": []}', "-----BEGIN PUBLIC KEY-----"])
def test_a_file_without_a_key_is_refused_at_start(text: str, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(TokenKeysError, match="SLIPSTREAM_ACCESS__TOKEN_KEYS"):
        TokenVerifier(AccessSettings(token_keys=str(path)))
    with pytest.raises(TokenKeysError, match="No such file"):
        TokenVerifier(AccessSettings(token_keys=str(tmp_path / "absent")))


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValidationError, match="32 bytes"):
        AccessSettings(token_secret="short")  # type: ignore[arg-type]


def test_a_service_shows_its_peers_a_token_that_may_read_and_holds_for_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = ServiceSettings(access=SHARED)
    credential = service_credential(settings, "serving")
    first = credential()
    assert credential() == first
    with TestClient(an_app(settings)) as client:
        headers = {"Authorization": f"Bearer {first}"}
        assert client.get("/echo", headers=headers).status_code == 200
        assert client.post("/body", json={"size": 1}, headers=headers).status_code == 403
        assert client.get("/echo").status_code == 401
    monkeypatch.setattr(time, "time", lambda now=time.time(): now + 250)
    assert credential() != first
    plain = service_credential(ServiceSettings(http={"api_token": "s3cret"}), "serving")  # type: ignore[arg-type]
    assert plain() == "s3cret"


def test_a_service_may_show_more_scopes_and_only_to_whom_they_open_something() -> None:
    credential = service_credential(
        ServiceSettings(access=SHARED), "serving", (Scope.READ, Scope.SERVICE)
    )
    found = TokenVerifier(SHARED).find(credential())
    assert found is not None
    assert found.principal == Principal(
        "service:serving", frozenset({Scope.READ, Scope.SERVICE}), False
    )


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


@many(100)
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


def test_the_mark_of_a_token_is_of_its_key_issuer_and_audience(tmp_path: Path) -> None:
    token, verifier = shared(), TokenVerifier(SHARED)
    mark = verifier.mark_of(token)
    assert SECRET not in mark and mark == verifier.mark_of(shared(sub="another"))
    assert verifier.takes(mark)
    for changed in (
        {"token_secret": SECRET[::-1]},
        {"token_issuer": "x"},
        {"token_audience": "x"},
    ):
        other = TokenVerifier(AccessSettings(**{"token_secret": SECRET} | changed))  # type: ignore[arg-type]
        assert not other.takes(mark)
    for wrong in ("", "a.b.c", token.partition(".")[0]):
        assert verifier.mark_of(wrong) == ""
    assert not verifier.takes("")


def test_the_mark_of_a_public_keys_token_counts_while_the_file_has_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, another = (ed25519.Ed25519PrivateKey.generate() for _ in range(2))
    file = tmp_path / "keys.pem"

    def write(key: ed25519.Ed25519PrivateKey) -> None:
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        file.write_bytes(pem)

    write(one)
    verifier = TokenVerifier(AccessSettings(token_keys=str(file)))
    mark = verifier.mark_of(jwt.encode(claims(), one, "EdDSA"))
    assert mark and verifier.takes(mark)
    write(another)
    os.utime(file, (1, 1))
    monkeypatch.setattr("slipstream.chassis.access.tokens._LOOK_S", 0.0)
    assert not verifier.takes(mark)
