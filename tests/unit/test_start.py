"""Commands that start a service."""

import os
import shlex
import subprocess
import sys

import pytest
from click.testing import CliRunner

from services.start import needed_settings
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.services import SERVICES
from slipstream_cli.__main__ import cli
from slipstream_cli.local.processes import Child, free_port
from slipstream_cli.local.readiness import is_ready
from tests.deploy.declared import names_a_setting, settings_class


def test_a_service_names_the_setting_that_is_wrong() -> None:
    environment = {**os.environ, "SLIPSTREAM_HTTP__PORT": "many"}
    ended = subprocess.run(
        [sys.executable, "-m", "services", "ingestion"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: settings: SLIPSTREAM_HTTP__PORT: ")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({}, "SLIPSTREAM_INGESTION__WRITE_KEYS is not set: give at least one name:key"),
        (
            {"SLIPSTREAM_INGESTION__LINGER_MS": "2"},
            "SLIPSTREAM_INGESTION__WRITE_KEYS is not set: give at least one name:key",
        ),
        (
            {"SLIPSTREAM_INGESTION__WRITE_KEYS": "s3cret"},
            "SLIPSTREAM_INGESTION__WRITE_KEYS: each entry is name:key, several separated by commas",
        ),
    ],
)
def test_ingestion_without_a_write_key_gets_one_clear_line_and_status_1(
    keys: dict[str, str], complaint: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "services", "ingestion"],
        env=_no_settings() | keys,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"Error: settings: {complaint}\n"


@pytest.mark.parametrize("service", SERVICES)
def test_the_example_of_a_service_is_a_command_with_settings_that_it_accepts(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = (
        CliRunner()
        .invoke(cli, [service, "--help"])
        .output.partition("Example:")[2]
        .partition("Port:")[0]
    )
    *settings, command, name = shlex.split(shown.replace("\\\n", " "))
    assert (command, name) == ("slipstream", service)
    assert tuple(settings) == needed_settings(service)
    for variable in [v for v in os.environ if v.startswith("SLIPSTREAM_")]:
        monkeypatch.delenv(variable)
    for variable, _, value in (setting.partition("=") for setting in settings):
        assert names_a_setting(variable), variable
        monkeypatch.setenv(variable, value)
    settings_class(service)()


def test_ingestion_runs_with_the_settings_of_its_example(
    broker: KafkaSettings, namespace: str
) -> None:
    example = dict(setting.split("=", 1) for setting in needed_settings("ingestion"))
    example["SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS"] = broker.bootstrap_servers
    port = free_port()
    environment = (
        _no_settings()
        | example
        | {"SLIPSTREAM_HTTP__PORT": str(port), "SLIPSTREAM_NAMESPACE": namespace}
    )
    child = Child(
        "ingestion",
        port,
        [sys.executable, "-m", "services", "ingestion"],
        is_ready,
        grace_s=60,
        environment=environment,
    )
    try:
        child.start(60)
    finally:
        assert child.stop()


def _no_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SLIPSTREAM_")}
