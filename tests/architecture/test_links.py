"""Every relative link in the documents leads somewhere."""

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)")


@cache
def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, in GitHub's form."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    words = (re.sub(r"\]\([^)]*\)", "", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in words}


def test_relative_links_of_the_documents_resolve() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")]
    assert len(pages) > 10
    broken = []
    for page in pages:
        for target, anchor in LINK.findall(page.read_text()):
            file = page.parent / target if target else page
            found = file.exists() and (
                not anchor or file.suffix != ".md" or anchor in _anchors(file.resolve())
            )
            if not found:
                broken.append(f"{page.relative_to(ROOT)}: {target}#{anchor}")
    assert broken == []


def test_the_tests_that_the_comparison_names_are_there() -> None:
    text = (ROOT / "docs/comparison.md").read_text()
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", text)
    assert len(named) == text.count(".py") > 0
    missing = []
    for path, name in named:
        file = ROOT / path if path.startswith("tests/") else ROOT / "tests/unit/serving" / path
        if not (file.is_file() and re.search(rf"def {name}\b", file.read_text())):
            missing.append(f"{path}::{name}")
    assert not missing
