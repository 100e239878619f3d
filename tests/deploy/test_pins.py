"""deploy/image/*.txt pin, with digests, what each image installs."""

import re

import pytest

from slipstream.contracts.services import SERVICES
from tests import requirement_lists
from tests.deploy.declared import DOCKERFILE, ROOT

FOLDER = ROOT / "deploy" / "image"
RENEW = "run `make lock`"


def pins(name: str) -> dict[str, str]:
    """By package: the version in one list. Each has digests, and only digests follow it."""
    found = {}
    for entry in re.split(r"\n(?=\S)", (FOLDER / f"{name}.txt").read_text().strip()):
        pinned, *digests = [line.strip(" \\") for line in entry.splitlines()]
        assert digests and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", d) for d in digests)
        package, version = re.match(r"([a-z0-9-]+)==(\S+)", pinned).groups()  # type: ignore[union-attr]
        found[package] = version
    return found


def locked() -> dict[str, str]:
    return {
        pin.name: next(iter(pin.specifier)).version
        for pin in requirement_lists.read(ROOT / "constraints.txt")
    }


@pytest.mark.parametrize("name", ["build", "library", *SERVICES])
def test_list_pins_the_versions_of_the_lock(name: str) -> None:
    assert pins(name).items() <= locked().items(), RENEW


@pytest.mark.parametrize("service", SERVICES)
def test_list_pins_what_the_image_requires_and_torch_alone_is_left_to_the_machine(
    service: str,
) -> None:
    listed = pins(service)
    direct = {requirement.name.lower() for requirement in requirement_lists.of_image(service)}
    assert direct - set(listed) == ({"torch"} if service == "training" else set()), RENEW
    assert pins("library").items() <= listed.items()


def test_nothing_that_builds_packages_is_in_an_image() -> None:
    for service in SERVICES:
        assert {"pip", "setuptools", "wheel"}.isdisjoint(pins(service))
    runtime = DOCKERFILE.split("FROM python:3.11-slim AS runtime")[1]
    assert "pip uninstall --quiet --yes --root-user-action ignore setuptools wheel pip" in runtime
