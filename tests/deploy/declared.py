"""What the container files declare, and what the code knows, for the tests to compare."""

import importlib
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from slipstream.chassis.settings import ServiceSettings
from slipstream.contracts.services import SERVICES

ROOT = Path(__file__).parents[2]
# Settings without which a service can't work in a container, since their defaults name this
# machine.
ADDRESSES = {
    "ingestion": {
        "SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS",
        "SLIPSTREAM_REDIS__URL",
        "SLIPSTREAM_INGESTION__WRITE_KEYS",
    },
    "features": {"SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS", "SLIPSTREAM_REDIS__URL"},
    "training": {"SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS", "SLIPSTREAM_DATABASE__URL"},
    "serving": {
        "SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS",
        "SLIPSTREAM_REDIS__URL",
        "SLIPSTREAM_PEERS__TRAINING_URL",
    },
    "monitoring": {
        "SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS",
        "SLIPSTREAM_DATABASE__URL",
        "SLIPSTREAM_PEERS__TRAINING_URL",
    },
}


def settings_class(service: str) -> type[ServiceSettings]:
    found: type[ServiceSettings] = getattr(
        importlib.import_module(f"services.{service}.settings"), f"{service.title()}Settings"
    )
    return found


def names_a_setting(variable: str) -> bool:
    """Whether some service reads this variable. A misspelt one would be ignored without a word."""
    path = variable.removeprefix("SLIPSTREAM_").lower().split("__")
    return any(_has_field(settings_class(service), path) for service in SERVICES)


def _has_field(model: type[BaseModel], path: list[str]) -> bool:
    field = model.model_fields.get(path[0])
    if field is None:
        return False
    if len(path) == 1:
        return True
    return (
        isinstance(field.annotation, type)
        and issubclass(field.annotation, BaseModel)
        and _has_field(field.annotation, path[1:])
    )


def build_settings(
    service: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> ServiceSettings:
    """The service's settings in exactly this environment, as its container would build them."""
    for variable in [v for v in os.environ if v.startswith("SLIPSTREAM_")]:
        monkeypatch.delenv(variable)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    return settings_class(service)()


DOCKERFILE = (ROOT / "Dockerfile").read_text()


def image_environment(service: str) -> dict[str, str]:
    """What the image of a service sets: the runtime stage's variables and its own."""
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)
    chosen = [stage for stage in stages if re.match(rf"\S+ AS (runtime|start-{service})\n", stage)]
    assert len(chosen) == 2, f"no stage for {service}"
    return {k: v for stage in chosen for k, v in re.findall(r"(SLIPSTREAM_\w+)=(\S+)", stage)}


def _interpolated(text: str) -> str:
    """Compose's `${NAME:-default}` with nothing set."""
    return re.sub(r"\$\{\w+(?::-([^}]*))?\}", lambda m: m[1] or "", text)


COMPOSE: dict[str, Any] = yaml.safe_load(_interpolated((ROOT / "docker-compose.yml").read_text()))


def compose_environment(service: str) -> dict[str, str]:
    """What a service's container gets, with none of the variables set."""
    return {
        variable: value or ""
        for variable, value in COMPOSE["services"][service]["environment"].items()
    }
