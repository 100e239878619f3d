"""The Dockerfile and the requirements agree with the code."""

import re
import sys
from importlib import metadata

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from slipstream.contracts.services import SERVICES
from tests import requirement_lists
from tests.deploy.declared import DOCKERFILE, image_environment, names_a_setting


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
    made = re.search(r"install -d -o slipstream -g slipstream (.*)", DOCKERFILE)
    assert made and set(kept) < set(made[1].split())


def test_image_sets_only_variables_that_settings_know() -> None:
    unknown = [v for v in set(re.findall(r"SLIPSTREAM_\w+", DOCKERFILE)) if not names_a_setting(v)]
    assert unknown == []


@pytest.mark.parametrize("service", ["ingestion", "features", "monitoring"])
def test_requirements_of_a_light_image_hold_no_training_library(service: str) -> None:
    names = {requirement.name for requirement in requirement_lists.of_image(service)}
    assert names
    assert names.isdisjoint({"torch", "scikit-learn", "mlflow", "pandas"})


# Imported only by `slipstream backfill --engine spark`, which says what to install where they are
# absent.
OF_AN_EXTRA = {"features": {"pandas", "pyspark"}}


def _installed(service: str) -> set[str]:
    """The distributions that pip installs into a service's image: both lists, and what those need."""
    return set(
        requirement_lists.reached(
            requirement_lists.of_image(service),
            lambda name: [Requirement(text) for text in metadata.requires(name) or []],
        )
    )


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph(
        "slipstream", "services", include_external_packages=True, exclude_type_checking_imports=True
    )


@pytest.mark.parametrize("service", SERVICES)
def test_image_holds_every_package_that_its_service_imports(
    service: str, imports: grimp.ImportGraph
) -> None:
    reached = imports.find_upstream_modules(f"services.{service}", as_package=True)
    external = (
        {name.partition(".")[0] for name in reached}
        - {"slipstream", "services"}
        - sys.stdlib_module_names
    )
    providers = metadata.packages_distributions()
    installed = _installed(service)
    absent = {
        name
        for name in external
        if installed.isdisjoint(canonicalize_name(d) for d in providers.get(name, []))
    }
    assert absent - OF_AN_EXTRA.get(service, set()) == set()
