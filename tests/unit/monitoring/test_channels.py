"""Addresses of people, as apprise reads them."""

import pytest

from services.monitoring.channels import channels

MAIL = "mailto://127.0.0.1?from=b@shop.example&to=a@shop.example"
SLACK = "slack://T00000000/B00000000/madeupmadeupmadeupmadeup"


def test_channels_are_named_by_scheme_and_place() -> None:
    found = channels(f" json://127.0.0.1:9/hook  {SLACK}\n{MAIL} ")
    assert list(found) == ["json-1", "slack-2", "mailto-3"]
    assert channels(" ") == {}


@pytest.mark.parametrize(
    ("urls", "words"),
    [
        (
            f"{SLACK} jsn://s3cret/x",
            "address 2 has no scheme that apprise knows: did you mean json?",
        ),
        ("s3cret", "address 1 has no scheme that apprise knows"),
        ("slack://s3cret", "apprise can't read address 1, of the scheme slack"),
    ],
)
def test_an_address_that_is_not_read_is_named_by_its_place(urls: str, words: str) -> None:
    with pytest.raises(ValueError, match="address") as refused:
        channels(urls)
    assert words in str(refused.value)
    assert "s3cret" not in str(refused.value)
