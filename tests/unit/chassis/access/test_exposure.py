"""A service without credentials does not listen beyond this machine."""

import os

import pytest
from click.testing import CliRunner

from services.start import service_command
from slipstream.chassis.access.verifier import ExposedError, refuse_exposure
from slipstream.chassis.settings import ServiceSettings
from tests.unit.chassis.test_app import an_app


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "shop.example", ""])
def test_beyond_loopback_credentials_are_required(host: str) -> None:
    with pytest.raises(ExposedError, match="SLIPSTREAM_HTTP__API_TOKEN"):
        an_app(ServiceSettings(http={"host": host}))  # type: ignore[arg-type]
    an_app(ServiceSettings(http={"host": host, "api_token": "t" * 32}))  # type: ignore[arg-type]
    an_app(ServiceSettings(http={"host": host}, access={"token_secret": "s" * 32}))  # type: ignore[arg-type]
    an_app(ServiceSettings(http={"host": host, "open_without_credentials": True}))  # type: ignore[arg-type]


@pytest.mark.parametrize("access", [{}, {"token_secret": "s" * 32}])
def test_beyond_loopback_a_short_api_token_is_refused(access: dict[str, str]) -> None:
    exposed = {"host": "0.0.0.0", "api_token": "t" * 31}
    with pytest.raises(ExposedError, match="API_TOKEN has fewer than 32 characters"):
        an_app(ServiceSettings(http=exposed, access=access))  # type: ignore[arg-type]
    an_app(ServiceSettings(http=exposed | {"open_without_credentials": True}))  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.1.1", "::1", "localhost"])
def test_on_this_machine_they_are_not(host: str) -> None:
    refuse_exposure(ServiceSettings(http={"host": host}))  # type: ignore[arg-type]
    refuse_exposure(ServiceSettings(http={"host": host, "api_token": "dev"}))  # type: ignore[arg-type]


def test_the_refusal_is_one_line_and_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith("SLIPSTREAM_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("SLIPSTREAM_HTTP__HOST", "0.0.0.0")
    monkeypatch.setattr("slipstream.chassis.logging.configure_logging", lambda *_: None)
    ended = CliRunner().invoke(service_command("monitoring"))
    assert ended.exit_code == 1
    assert ended.output.startswith("Error: settings: SLIPSTREAM_HTTP__HOST=0.0.0.0 answers other")
    assert len(ended.output.splitlines()) == 1
