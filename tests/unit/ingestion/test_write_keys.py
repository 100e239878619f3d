import base64

import pytest

from services.ingestion.write_keys import WriteKeys, key_in_header


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


@pytest.mark.parametrize("header", ["", "Basic", "Basic !!", "Bearer s3cret", "Basic " + base64.b64encode(b"\xff:").decode()])
def test_other_headers_hold_no_key(header: str) -> None:
    assert key_in_header(header) is None
