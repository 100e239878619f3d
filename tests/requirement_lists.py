"""The requirement lists of the library, the services and the extras, and what they reach."""

import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "slipstream" / "requirements.txt"


def read(path: Path) -> list[Requirement]:
    """The requirements of a list or of a constraints file, without comments."""
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


def of_image(service: str) -> list[Requirement]:
    """The requirements that a service's image installs: the library's and its own."""
    return read(LIBRARY) + read(ROOT / "services" / service / "requirements.txt")


def of_everything() -> list[Requirement]:
    """The requirements of all services and of all extras in pyproject.toml."""
    lists = [LIBRARY, *sorted(ROOT.glob("services/*/requirements.txt"))]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [
        Requirement(text) for extra in project["optional-dependencies"].values() for text in extra
    ]
    return [requirement for path in lists for requirement in read(path)] + extras


def reached(
    requirements: Iterable[Requirement], needs: Callable[[str], Iterable[Requirement]]
) -> dict[str, list[Requirement]]:
    """The requirements and, in turn, those of each package that they name, in this environment.

    Args:
        requirements: Where to begin.
        needs: Gives the requirements of a package, those of its extras too.

    Returns:
        By canonical name of a package: all requirements that name it.
    """
    pending, seen = list(requirements), set[tuple[str, str]]()
    result: dict[str, list[Requirement]] = {}
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        result.setdefault(name, []).append(requirement)
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                pending += [
                    need
                    for need in needs(name)
                    if need.marker is None or need.marker.evaluate({"extra": extra})
                ]
    return result
