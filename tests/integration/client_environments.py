"""Environments of clients as their packages ship, which `make clients` makes.

Each client has its own, since they need other versions of our dependencies.
"""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".clients"


def python_of(client: str) -> Path:
    return FOLDER / client / "bin" / "python"


def is_installed(client: str) -> bool:
    """Whether `make clients` has made the client's environment to its end."""
    return (FOLDER / client / ".installed").exists()


def needs_environment(client: str) -> pytest.MarkDecorator:
    """A mark that skips a test where the client is not installed."""
    reason = f"{client}'s client is not installed: make clients"
    return pytest.mark.skipif(not is_installed(client), reason=reason)


def run_client(client: str, request: pytest.FixtureRequest, *arguments: object) -> None:
    """Run `<client>_client.py` in the client's environment, and show the line that it prints."""
    script = Path(__file__).with_name(f"{client}_client.py")
    ended = subprocess.run(
        [python_of(client), script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        # MLflow loads models by our library.
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{ended.stdout.strip()}")
