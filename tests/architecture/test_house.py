"""The rules of the house that a program can check: names, sizes, imports, and pages that are
written from the code.
"""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import grimp
import pytest

from generate.__main__ import pages
from slipstream.contracts.services import SERVICES
from slipstream.contracts.topics import TOPICS

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for folder in ("slipstream", "services", "slipstream_cli", "bench", "generate", "tests")
    for path in (ROOT / folder).rglob("*.py")
)
FORBIDDEN_NAMES = {"utils", "util", "helpers", "common", "misc", "core", "manager"}
MOST_LINES = 500


def test_no_file_has_a_name_that_says_nothing() -> None:
    assert [str(path.relative_to(ROOT)) for path in SOURCES if path.stem in FORBIDDEN_NAMES] == []


def test_no_file_is_long() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in SOURCES
    }
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_a_card_of_one_form(service: str) -> None:
    card = (ROOT / "services" / service / "__init__.py").read_text("utf-8")
    first, _, rest = card.removeprefix('"""').partition("\n\n")
    assert first.startswith(service.capitalize()) and first.endswith(".")
    lines = ("Owns:", "Consumes:", "Produces:", "Calls:", "Stores:")
    assert re.findall(r"^[A-Z][a-z]+:", rest, re.MULTILINE) == list(lines)


def test_import_rules_hold() -> None:
    checked = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as run; run()",
            "--no-cache",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_serving_is_a_small_house() -> None:
    graph = grimp.build_graph("services", "slipstream", cache_dir=None)
    modules = {name for name in graph.modules if name.startswith("services.serving.")}
    folders = {name.rpartition(".")[0] for name in modules}
    rooms = modules - folders
    assert len(modules) + 1 <= 50

    @cache
    def floors_up_to(name: str) -> int:
        below = graph.find_modules_directly_imported_by(name) & rooms
        return 1 + max(map(floors_up_to, below), default=0)

    assert max(map(floors_up_to, rooms)) <= 9


def test_fastapi_is_imported_only_by_the_chassis_and_by_routes() -> None:
    allowed = {
        ROOT / "slipstream" / "chassis",
        *(ROOT / "services").glob("*/app.py"),
        *(ROOT / "services").rglob("api.py"),
        *(ROOT / "services").rglob("http"),
        ROOT / "bench" / "ceiling.py",  # an empty route, which others are measured against
    }
    offenders = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if "tests" not in path.relative_to(ROOT).parts
        and "fastapi" in _imported(path)
        and not allowed & {path, *path.parents}
    ]
    assert offenders == []


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    """The pages that the code makes. It takes seconds, so no process does it to collect tests."""
    return dict(pages())


def test_every_page_is_what_the_code_says(written: dict[str, str]) -> None:
    outdated = [
        name
        for name, text in written.items()
        if not (ROOT / name).exists() or (ROOT / name).read_text(encoding="utf-8") != text
    ]
    assert outdated == [], "run `make docs`"


def test_every_topic_is_documented_with_its_fields(written: dict[str, str]) -> None:
    text = written["docs/topics.md"]
    for topic in TOPICS:
        assert f"## {topic.name}" in text
        assert all(f"| `{field}` |" in text for field in topic.record.model_fields)


def _imported(path: Path) -> set[str]:
    # Not by `ast`: CPython 3.11's parser fails now and then while other threads import
    # (python/cpython issue 106905).
    return set(
        re.findall(r"^\s*(?:from|import)\s+(\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    )
