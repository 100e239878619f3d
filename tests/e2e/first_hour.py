"""The steps of `docs/your-first-hour.md`: commands, run as the page has them, and their outputs."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from slipstream.contracts.services import SERVICES
from tests.console_pages import Step, differences, steps

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "your-first-hour.md"
FILES = ROOT / "docs" / "first-hour"
# What the page's stack prints and asks at its usual ports.
STANDARD = {name: f"http://127.0.0.1:{service.port}" for name, service in SERVICES.items()}
# The page's command that starts the stack.
START = "slipstream up"
PATIENCE_S = 60.0


def run(step: Step, directory: Path, urls: dict[str, str], folder: Path) -> list[str]:
    """What a step prints in `folder`, against the stack on `directory`."""
    command = step.command.removeprefix(".venv/bin/")
    for name, url in STANDARD.items():
        command = command.replace(url, urls[name])
    words = shlex.split(command)
    if words[0] == "slipstream":
        words = [sys.executable, "-m", "slipstream_cli", *words[1:]]
    ended = subprocess.run(
        words,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SLIPSTREAM_DATA_DIR": str(directory)},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    printed = ended.stdout.replace(f" --data-dir {directory}", "")
    for name, url in STANDARD.items():
        printed = printed.replace(urls[name], url)
    return [line.rstrip() for line in printed.splitlines() if line.strip()]


def reads(step: Step) -> bool:
    """Whether a command only asks, so that it may be run again."""
    return step.command.startswith("curl")


def untrue(directory: Path, urls: dict[str, str], folder: Path) -> list[str]:
    """What the page shows and its commands do not print.

    Args:
        directory: Data folder of a stack without events.
        urls: The stack's addresses.
        folder: An empty folder, in which the commands run.
    """
    wrong = []
    for file in FILES.iterdir():
        shutil.copy(file, folder)
    for step in steps(PAGE):
        if START in step.command:
            continue
        printed = run(step, directory, urls, folder)
        deadline = time.monotonic() + PATIENCE_S
        # A reader is slower than a test: serving takes a promoted model into service meanwhile.
        while differences(step.shown, printed) and reads(step) and time.monotonic() < deadline:
            time.sleep(0.2)
            printed = run(step, directory, urls, folder)
        for line in differences(step.shown, printed):
            wrong.append(f"{step.command}: {line!r} is not in {printed}")
    return wrong
