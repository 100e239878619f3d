"""The Dockerfile and the requirements agree with the code."""

import re
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from importlib import metadata

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from slipstream.contracts.services import SERVICES
from tests import requirement_lists
from tests.deploy.declared import DOCKERFILE, ROOT, image_environment, names_a_setting


@pytest.mark.parametrize("service", SERVICES)
def test_image_starts_its_own_service_on_its_own_port(service: str) -> None:
    stage = DOCKERFILE.split(f"FROM runtime AS start-{service}\n")[1].split("\n\n")[0].splitlines()
    assert stage[:2] == [
        f"ENV SLIPSTREAM_HTTP__PORT={SERVICES[service].port}",
        f"EXPOSE {SERVICES[service].port}",
    ]
    assert stage[-1] == f'CMD ["{service}"]'


def test_image_runs_unprivileged_and_keeps_its_data_in_data() -> None:
    assert "\nUSER 10001:10001\n" in DOCKERFILE
    environment = image_environment("serving")
    kept = [
        environment[f"SLIPSTREAM_{name}"]
        for name in ("LAKE__URI", "ARTIFACTS__DIRECTORY", "SERVING__CACHE_DIR")
    ]
    made = re.search(r"install -d -m 700 -o slipstream -g slipstream (.*)", DOCKERFILE)
    assert made and set(kept) < set(made[1].split())


def test_image_sets_only_variables_that_settings_know() -> None:
    unknown = [v for v in set(re.findall(r"SLIPSTREAM_\w+", DOCKERFILE)) if not names_a_setting(v)]
    assert unknown == []


def test_folders_that_packages_lead_to_are_in_the_build() -> None:
    led_to = {
        link.resolve().relative_to(ROOT).as_posix()
        for package in PACKAGES
        for link in (ROOT / package).rglob("*")
        if link.is_symlink()
    }
    assert led_to == {"docs/runbook"}
    for folder in led_to:
        assert f"COPY {folder} {folder}\n" in DOCKERFILE
        assert f"!{folder}/\n" in (ROOT / ".dockerignore").read_text("utf-8")


@pytest.mark.parametrize("service", ["ingestion", "features", "monitoring"])
def test_requirements_of_a_light_image_hold_no_training_library(service: str) -> None:
    names = {requirement.name for requirement in requirement_lists.of_image(service)}
    assert names
    assert names.isdisjoint({"torch", "scikit-learn", "mlflow", "pandas"})


PACKAGES = ("slipstream", "services", "slipstream_cli")
# Modules of the commands that the runbook uses in containers, with the images that can run them.
COMMANDS = {
    "runs": tuple(SERVICES),
    "models": tuple(SERVICES),
    "keys": tuple(SERVICES),
    "dead_letters": tuple(SERVICES),
}
# Imported only within functions that the service does not call, in modules that it imports.
NEVER_CALLED = {
    # `slipstream backfill --engine spark`, which says what to install where they are absent
    "features": {"pandas", "pyspark"},
    # `ItemToItem.score_all`, by which training judges retrievers; 110 MB
    "serving": {"scipy"},
}


@cache
def _installed(service: str) -> set[str]:
    """The distributions in a service's image: both lists, and their dependencies."""
    return set(
        requirement_lists.reached(
            requirement_lists.of_image(service),
            lambda name: [Requirement(text) for text in metadata.requires(name) or []],
        )
    )


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph(
        *PACKAGES, include_external_packages=True, exclude_type_checking_imports=True
    )


@pytest.mark.parametrize("service", SERVICES)
def test_image_holds_every_package_that_its_service_imports(
    service: str, imports: grimp.ImportGraph
) -> None:
    reached = imports.find_upstream_modules(f"services.{service}", as_package=True)
    assert _absent(reached, service) - NEVER_CALLED.get(service, set()) == set()


@pytest.mark.parametrize(
    ("command", "service"),
    [(command, service) for command, services in COMMANDS.items() for service in services],
)
def test_image_holds_every_package_that_a_command_imports(
    command: str, service: str, imports: grimp.ImportGraph
) -> None:
    reached = imports.find_upstream_modules(f"slipstream_cli.commands.{command}")
    assert reached
    assert _absent(reached, service) == set()


# Runs commands where modules of absent packages can't be imported, as in an image. Prints the exit
# status of each.
IN_AN_IMAGE = """
import sys

absent = set(sys.argv[1].split())

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"{name} is not in this image", name=name)

sys.meta_path.insert(0, Absent())

from click.testing import CliRunner
from slipstream_cli.__main__ import cli

for line in sys.argv[2:]:
    result = CliRunner().invoke(cli, line.split())
    if not isinstance(result.exception, SystemExit | None):
        raise result.exception
    print(result.exit_code, result.output, file=sys.stderr)
    print(result.exit_code, line)
"""


@pytest.mark.parametrize("service", SERVICES)
def test_image_runs_the_command_line(service: str) -> None:
    absent = _absent(metadata.packages_distributions(), service)
    assert "pytest" in absent
    away = "--url http://127.0.0.1:1"
    lines = ["runs --help", "models --help", f"runs list {away}", f"models list {away}"]
    ended = subprocess.run(
        [sys.executable, "-c", IN_AN_IMAGE, " ".join(absent), *lines],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    expected = [f"{0 if line.endswith('--help') else 1} {line}" for line in lines]
    assert ended.stdout.splitlines() == expected, ended.stderr


def _absent(modules: Iterable[str], service: str) -> set[str]:
    """The top-level modules of other packages among these that a service's image lacks."""
    names = {name.partition(".")[0] for name in modules}
    providers = metadata.packages_distributions()
    installed = _installed(service)
    return {
        name
        for name in names - {*PACKAGES} - sys.stdlib_module_names
        if installed.isdisjoint(canonicalize_name(d) for d in providers.get(name, []))
    }
