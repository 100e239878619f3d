"""Every relative link in the documents leads somewhere."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def test_relative_links_of_the_documents_resolve() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")]
    assert len(pages) > 10
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in LINK.findall(page.read_text())
        if not (page.parent / target).exists()
    ]
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
