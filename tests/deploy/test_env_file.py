"""`make env` writes secrets that docker-compose.yml and the services take."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from slipstream.chassis.access.verifier import refuse_exposure
from slipstream.contracts.services import SERVICES
from tests.deploy.declared import (
    ROOT,
    build_settings,
    compose_environment,
    image_environment,
    names_a_setting,
)


def written(path: Path) -> dict[str, str]:
    subprocess.run(
        [sys.executable, ROOT / "deploy" / "compose" / "env_file.py", path], check=True, timeout=60
    )
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_two_files_share_no_secret_and_only_the_owner_reads_them(tmp_path: Path) -> None:
    first, second = written(tmp_path / "first"), written(tmp_path / "second")
    assert set(first) == set(second)
    assert set(first.values()).isdisjoint(second.values())
    assert len(set(first.values())) == len(first)
    assert stat.S_IMODE((tmp_path / "first").stat().st_mode) == 0o600


def test_a_file_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("POSTGRES_PASSWORD=mine\n")
    assert written(path) == {"POSTGRES_PASSWORD": "mine"}


def test_the_documented_commands_send_the_secrets_of_the_file(tmp_path: Path) -> None:
    secrets = written(tmp_path / ".env")
    page = (ROOT / "deploy" / "README.md").read_text()
    commands = page[page.index("    make env\n") : page.index("`make env` writes")]
    told = "make() { :; }; docker() { :; }; slipstream() { echo $*; }; curl() { echo $*; }\n"
    ran = subprocess.run(
        ["sh", "-euc", told + commands], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    replay, train, recommend = ran.stdout.splitlines()
    key = secrets["SLIPSTREAM_INGESTION__WRITE_KEYS"].removeprefix("shop:")
    assert replay.endswith(f" --write-key {key}")
    bearer = f" -H Authorization: Bearer {secrets['SLIPSTREAM_HTTP__API_TOKEN']}"
    assert train.endswith(bearer) and recommend.endswith(bearer)


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_takes_the_secrets_and_need_not_be_open(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = written(tmp_path / ".env")
    own = {name: value for name, value in secrets.items() if name.startswith("SLIPSTREAM_")}
    assert [name for name in own if not names_a_setting(name)] == []
    environment = image_environment(service) | compose_environment(service) | own
    environment["SLIPSTREAM_HTTP__OPEN_WITHOUT_CREDENTIALS"] = "false"
    refuse_exposure(build_settings(service, environment, monkeypatch))
