"""Pages of the documentation that show commands and their output, as tests read them.

A block of a page begins with `$ command`, and the lines below are what it prints. `…` on a line of
the page stands for whatever is different each time.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Step(NamedTuple):
    """A command of the page, and the lines that the page shows below it."""

    command: str
    shown: list[str]


def steps(page: Path) -> Iterator[Step]:
    """The page's commands, in order."""
    for block in re.findall(r"^```console\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *shown = part.splitlines()
            yield Step(command, [line.rstrip() for line in shown if line.strip()])


def differences(shown: list[str], printed: list[str]) -> list[str]:
    """The lines of the page that nothing printed suits, in order.

    A line of `…` alone stands for any lines.
    """
    missing, at = [], 0
    for line in shown:
        if line.strip() == "…":
            continue
        pattern = re.escape(line).replace("…", ".*")
        found = next(
            (n for n in range(at, len(printed)) if re.fullmatch(pattern, printed[n])), None
        )
        if found is None:
            missing.append(line)
        else:
            at = found + 1
    return missing
