"""A service without credentials does not listen beyond this machine."""

import os
import subprocess
import sys

import pytest

from slipstream.chassis.access.verifier import ExposedError, refuse_exposure
from slipstream.chassis.settings import ServiceSettings
from tests.unit.chassis.test_app import an_app


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "shop.example", ""])
def test_beyond_loopback_credentials_are_required(host: str) -> None:
    with pytest.raises(ExposedError, match="SLIPSTREAM_HTTP__API_TOKEN"):
        an_app(ServiceSettings(http={"host": host}))  # type: ignore[arg-type]
    an_app(ServiceSettings(http={"host": host, "api_token": "s3cret"}))  # type: ignore[arg-type]
    an_app(ServiceSettings(http={"host": host, "open_without_credentials": True}))  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.1.1", "::1", "localhost"])
def test_on_this_machine_they_are_not(host: str) -> None:
    refuse_exposure(ServiceSettings(http={"host": host}))  # type: ignore[arg-type]


def test_the_refusal_is_one_line_and_status_1() -> None:
    environment = {n: v for n, v in os.environ.items() if not n.startswith("SLIPSTREAM_")}
    ended = subprocess.run(
        [sys.executable, "-m", "services", "monitoring"],
        env=environment | {"SLIPSTREAM_HTTP__HOST": "0.0.0.0"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Error: settings: SLIPSTREAM_HTTP__HOST=0.0.0.0 answers other")
    assert len(ended.stderr.splitlines()) == 1
