"""The count of words that make sentences hard to read. It may fall, and never rise.

CONTRIBUTING.md says how we write. A native writer uses each of these words now and then, so the
limits are counts and not zero.
"""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUFFIXES = {".py", ".md", ".yml", ".yaml", ".sh", ".js", ".mjs", ".cjs", ".html", ".lua", ".txt"}
FOLDERS = (
    "slipstream",
    "services",
    "slipstream_cli",
    "bench",
    "generate",
    "deploy",
    "docs",
    ".github",
)
FILES = (
    *("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", ".env.example", "Makefile"),
    *("Dockerfile", "docker-compose.yml", "pyproject.toml", ".ci/run"),
)
# Decisions stay as they were written. Reports to other projects are theirs.
UNCOUNTED = (
    "docs/adr/",
    "docs/upstream/",
    "services/monitoring/static/",  # built from console/, of other people's code for the most part
    "tests/architecture/test_words.py",
)
# Most occurrences of each word, in the product with its pages and in the tests.
LIMITS = {
    "beside": (8, 23),
    "nobody": (6, 29),
    "anew": (2, 5),
    "is told": (1, 1),
    "are told": (0, 1),
    "told of": (0, 0),
    "whose": (21, 22),
    "whom": (8, 16),
    "asked for": (4, 3),
    "the like": (0, 0),
    "so much": (0, 0),
    "of then": (0, 3),
    "everybody": (0, 0),
}


@cache
def _text(tests: bool) -> str:
    """The text of the product or of the tests in one line, without the marks of comments."""
    folders = ("tests",) if tests else FOLDERS
    files = [path for name in folders for path in (ROOT / name).rglob("*")]
    counted = [
        path
        for path in files
        if path.suffix in SUFFIXES and not path.relative_to(ROOT).as_posix().startswith(UNCOUNTED)
    ] + ([] if tests else [ROOT / name for name in FILES])
    text = " ".join(path.read_text("utf-8") for path in counted)
    # A string of one word is a value, such as the id of a visitor.
    return re.sub(r"[\s#\"'/*]+", " ", re.sub(r"([\"'])\w+\1", " ", text)).lower()


@pytest.mark.parametrize("tests", [False, True], ids=["product", "tests"])
@pytest.mark.parametrize("word", LIMITS)
def test_a_word_is_not_used_more_often(word: str, tests: bool) -> None:
    count, limit = len(re.findall(rf"\b{word}\b", _text(tests))), LIMITS[word][tests]
    assert count <= limit, f"{word!r} stands {count} times, over {limit}: write it another way"
    assert count == limit, f"lower the limit of {word!r} in LIMITS to {count}"
