"""The lock, constraints.txt, is fresh: it pins what requirement lists reach, and nothing else."""

import re
from collections.abc import Iterator
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests import requirement_lists
from tests.requirement_lists import ROOT

LOCK = (ROOT / "constraints.txt").read_text("utf-8")
PINS = requirement_lists.read(ROOT / "constraints.txt")
# The project itself, in uv's comments on who needs a pin.
PROJECT = "slipstream (pyproject.toml)"
# torch stays a range that a CPU build and a CUDA build satisfy. Only it needs the others.
UNLOCKED = re.compile(r"torch|triton|cuda-.+|nvidia-.+")
RENEW = "run `make lock`"


def here(requirement: Requirement) -> bool:
    """Whether the requirement or pin applies to this Python on this system."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def version(pin: Requirement) -> Version:
    (specifier,) = pin.specifier
    assert specifier.operator == "=="
    return Version(specifier.version)


VERSIONS = {canonicalize_name(pin.name): version(pin) for pin in PINS if here(pin)}


def needed_by() -> Iterator[tuple[str, list[str]]]:
    """The name of each pin, and who needs it by uv's comment."""
    for line in LOCK.splitlines():
        pinned = re.match(r"([a-z0-9-]+)==.*# via (.+)", line)
        if pinned:
            yield pinned[1], pinned[2].split(", ")


def needs(name: str) -> list[Requirement]:
    """The requirements of a package, as its metadata has them where the pinned version is installed
    here, else as the lock's comments have them.
    """
    try:
        if name in VERSIONS and Version(metadata.version(name)) == VERSIONS[name]:
            return [Requirement(text) for text in metadata.requires(name) or []]
    except metadata.PackageNotFoundError:
        pass
    comments = dict(needed_by())
    return [pin for pin in PINS if name in comments[pin.name]]


def reached() -> dict[str, list[Requirement]]:
    """By name of a package that the lock should pin: all requirements that name it."""
    naming = requirement_lists.reached(requirement_lists.of_everything(), needs)
    return {name: naming[name] for name in naming if not UNLOCKED.fullmatch(name)}


def test_lock_pins_one_version_of_each_package() -> None:
    names = [canonicalize_name(pin.name) for pin in PINS]
    assert len(names) == len(set(names)) > 0
    assert all(version(pin) and not pin.extras and pin.url is None for pin in PINS)


def test_lock_leaves_torch_and_its_cuda_libraries_open() -> None:
    assert [pin.name for pin in PINS if UNLOCKED.fullmatch(pin.name)] == []
    ranges = [
        requirement
        for requirement in requirement_lists.of_everything()
        if requirement.name == "torch"
    ]
    assert ranges
    assert all(r.specifier.contains("2.13.0+cpu") and not r.url for r in ranges)


def test_lock_names_no_index() -> None:
    assert "://" not in LOCK


def test_lock_has_a_version_in_range_for_every_requirement() -> None:
    listed = [r for r in requirement_lists.of_everything() if not UNLOCKED.fullmatch(r.name)]
    pins = {canonicalize_name(pin.name): version(pin) for pin in PINS}
    stale = [
        str(requirement)
        for requirement in listed
        if (pinned := pins.get(canonicalize_name(requirement.name))) is None
        or not requirement.specifier.contains(pinned, prereleases=True)
    ]
    assert stale == [], RENEW


def test_lock_has_a_version_in_range_for_everything_that_requirements_reach() -> None:
    stale = [
        f"{requirement}, pinned {VERSIONS.get(name)}"
        for name, naming in reached().items()
        for requirement in naming
        if name not in VERSIONS
        or not requirement.specifier.contains(VERSIONS[name], prereleases=True)
    ]
    assert stale == [], RENEW


def test_lock_pins_nothing_that_no_requirement_reaches() -> None:
    assert VERSIONS.keys() - reached().keys() == set(), RENEW


def test_lock_says_who_needs_each_pin_and_they_still_do() -> None:
    listed = {canonicalize_name(r.name) for r in requirement_lists.of_everything()}
    comments = dict(needed_by())
    assert len(comments) == len(PINS)
    direct = {name for name, needing in comments.items() if PROJECT in needing}
    assert direct == {name for name in listed if not UNLOCKED.fullmatch(name)}, RENEW
    absent = {
        needing
        for names in comments.values()
        for needing in names
        if needing not in comments and not UNLOCKED.fullmatch(needing) and needing != PROJECT
    }
    assert absent == set(), RENEW


@pytest.mark.parametrize("path", ["Dockerfile", "Makefile"])
def test_every_installation_that_resolves_uses_the_lock(path: str) -> None:
    text = (ROOT / path).read_text("utf-8")
    lines = [
        line for line in text.splitlines() if re.search(r"\bpip install\b|PIP_INSTALL :=", line)
    ]
    # Lists with digests come from the lock (tests/deploy/test_pins.py), and the project itself has
    # nothing to resolve. The last are environments of others' clients, which pin other versions of
    # the same packages.
    other = r"--require-hashes|--no-index |\$\(patsubst %,'%',\$\(REQUIREMENT\)\)$"
    resolving = [line for line in lines if not re.search(other, line)]
    assert resolving
    assert [line for line in resolving if "constraints.txt" not in line] == []
    assert "!constraints.txt" in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
