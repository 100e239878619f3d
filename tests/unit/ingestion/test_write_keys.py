import base64

import pytest

from services.ingestion.write_keys import WriteKeys, key_in_header
from slipstream.stores.write_keys import StoredKey, digest_of


def basic(credentials: str) -> str:
    return "Basic " + base64.b64encode(credentials.encode()).decode()


def test_key_gives_the_name_it_belongs_to() -> None:
    keys = WriteKeys("shop:s3cret, app:other:with-colon")
    assert keys.name_of("s3cret") == "shop"
    assert keys.name_of("other:with-colon") == "app"
    assert keys.name_of("shop") is None
    assert keys.name_of("") is None


def test_keys_are_not_held_in_the_clear() -> None:
    assert "s3cret" not in repr(vars(WriteKeys("shop:s3cret")))


@pytest.mark.parametrize("configured", ["", " , ", "shop", "shop:", ":key", "a:k,b:k", "a:k,a:l"])
def test_bad_configuration_is_refused_with_the_variable_s_name(configured: str) -> None:
    with pytest.raises(ValueError, match="SLIPSTREAM_INGESTION__WRITE_KEYS"):
        WriteKeys(configured)


def test_key_is_the_user_name_of_basic_authentication() -> None:
    assert key_in_header(basic("s3cret:")) == "s3cret"
    assert key_in_header(basic("s3cret")) == "s3cret"


@pytest.mark.parametrize(
    "header",
    ["", "Basic", "Basic !!", "Bearer s3cret", "Basic " + base64.b64encode(b"\xff:").decode()],
)
def test_other_headers_hold_no_key(header: str) -> None:
    assert key_in_header(header) is None


def test_stored_keys_count_beside_the_configured_ones_until_they_end() -> None:
    keys = WriteKeys("shop:s3cret")
    keys.replace_stored(
        [
            StoredKey(digest_of("one"), "app", 1),
            StoredKey(digest_of("two"), "app", 1, expires=2),
            StoredKey(digest_of("three"), "app", 1, revoked=2),
        ]
    )
    assert [keys.name_of(key) for key in ("s3cret", "one", "two", "three")] == [
        "shop",
        "app",
        None,
        None,
    ]
    keys.replace_stored([])
    assert keys.name_of("one") is None
