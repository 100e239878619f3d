"""The bake file builds the five images by the arguments that the Dockerfile has."""

import json
import re
import shutil
import subprocess

import pytest

from slipstream.contracts.services import SERVICES
from tests.deploy.declared import COMPOSE, DOCKERFILE, ROOT


def has_buildx() -> bool:
    return (
        shutil.which("docker") is not None
        and not subprocess.run(["docker", "buildx", "version"], capture_output=True).returncode
    )


@pytest.mark.skipif(not has_buildx(), reason="needs docker buildx: docs.docker.com/build")
def test_bake_builds_every_image_for_both_platforms() -> None:
    printed = subprocess.run(
        ["docker", "buildx", "bake", "-f", "deploy/docker-bake.hcl", "--print"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    targets = json.loads(printed)["target"]
    assert set(targets) == set(SERVICES)
    arguments = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
    for service, target in targets.items():
        assert target["args"]["SERVICE"] == service
        assert target["platforms"] == ["linux/amd64", "linux/arm64"]
        assert target["tags"] == [f"slipstream/{service}:local"]
        assert set(target["args"]) == arguments


@pytest.mark.parametrize("service", SERVICES)
def test_compose_builds_by_arguments_that_the_dockerfile_has(service: str) -> None:
    arguments = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
    given = set(COMPOSE["services"][service]["build"]["args"])
    assert given <= arguments
    assert given >= {"SERVICE", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "CODE_COMMIT"}
    assert ("TORCH_INDEX_URL" in given) == (service == "training")
