"""Every check has its name in docs/doctor.md."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[4]


def test_checks_are_those_of_the_page() -> None:
    files = [*(ROOT / "slipstream_cli/doctor").glob("*.py")]
    files.append(ROOT / "slipstream/evaluation/data_checks.py")
    code = "".join(path.read_text("utf-8") for path in files)
    named = set(re.findall(r'Finding\(\s*"(\w+)"', code))
    page = (ROOT / "docs/doctor.md").read_text("utf-8")
    told = set(re.findall(r"`([a-z]+_[a-z_]+|silence)`", page.partition("## What it looks at")[2]))
    assert len(named) > 10
    assert named == told - {"alert_"}
