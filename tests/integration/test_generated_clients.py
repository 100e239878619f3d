"""Clients that generators make of the services' OpenAPI documents: they compile, and they call.

`make clients` installs the generators, each in an environment of its own.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from services.features.app import create_app as create_features
from services.features.settings import FeaturesSection, FeaturesSettings
from slipstream.chassis.settings import HttpSettings, KafkaSettings, LakeSettings, RedisSettings
from slipstream.contracts.services import SERVICES
from slipstream_cli.commands.openapi import openapi
from tests.integration import test_protocol_clients
from tests.integration.client_environments import FOLDER, needs_environment, python_of
from tests.integration.ingestion_process import KEY, ingestion_process
from tests.integration.running_materializer import steady
from tests.integration.test_protocol_clients import TOKEN
from tests.integration.test_serving import running

NODE_MODULES = FOLDER / "typescript" / "node_modules"
HERE = Path(__file__).parent

bundle, training, training_url, address = (
    test_protocol_clients.bundle,
    test_protocol_clients.training,
    test_protocol_clients.training_url,
    test_protocol_clients.address,
)


@pytest.fixture
def shop(
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    lake_settings: LakeSettings,
    address: str,
    namespace: str,
) -> Iterator[str]:
    """JSON of the addresses and credentials of ingestion, features and serving."""
    features = FeaturesSettings(
        namespace=namespace,
        kafka=broker,
        redis=redis_settings,
        lake=lake_settings,
        http=HttpSettings(port=0, api_token=TOKEN),
        features=FeaturesSection(lake_flush_s=0.2),
    )
    with (
        ingestion_process(broker, redis_settings, namespace) as ingestion_url,
        running(create_features(steady(features))) as features_url,
    ):
        yield json.dumps(
            {
                "ingestion": ingestion_url,
                "features": features_url,
                "serving": f"http://{address}",
                "write_key": KEY,
                "token": TOKEN,
            }
        )


@pytest.fixture
def documents(tmp_path: Path) -> list[Path]:
    """A file `<service>.json` of each service's OpenAPI document."""
    CliRunner().invoke(openapi, [str(tmp_path)], catch_exceptions=False)
    return [tmp_path / f"{service}.json" for service in SERVICES]


@needs_environment("openapi")
def test_python(shop: str, documents: list[Path], tmp_path: Path) -> None:
    # Without its formatting, which needs further programs.
    (tmp_path / "config.yml").write_text("post_hooks: []\n")
    for document in documents:
        told = _run(
            python_of("openapi").with_name("openapi-python-client"),
            "generate",
            f"--path={document}",
            f"--output-path={tmp_path / document.stem}_client",
            f"--config={tmp_path / 'config.yml'}",
            "--meta=none",
            cwd=tmp_path,
        )
        # It knows neither pictures nor lines of JSON, and leaves out the pixel and prices.
        left_out = told.split("WARNING parsing")[1:]
        known = (" GET /v1/pixel.gif ", " POST /v1/prices ")
        assert all(each.startswith(known) for each in left_out), told
    _run(python_of("openapi"), HERE / "openapi_client.py", shop, cwd=tmp_path)


@needs_environment("typescript")
def test_typescript(shop: str, documents: list[Path], tmp_path: Path) -> None:
    programs = NODE_MODULES / ".bin"
    (tmp_path / "node_modules").symlink_to(NODE_MODULES, target_is_directory=True)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    for document in documents:
        _run(
            programs / "openapi-typescript",
            document,
            "-o",
            document.with_suffix(".ts"),
            cwd=tmp_path,
        )
    shutil.copy(HERE / "openapi_client.ts", tmp_path / "client.ts")
    _run(
        programs / "tsc",
        *("--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck"),
        *("client.ts", *(f"{service}.ts" for service in SERVICES)),
        cwd=tmp_path,
    )
    _run("node", "client.js", shop, cwd=tmp_path)


def _run(*command: Any, cwd: Path) -> str:
    """What the command says, with modules of `cwd` to import. The test fails where it does."""
    ended = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(cwd)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr
