"""Installation of Feast."""

from pathlib import Path

import pytest

from slipstream_cli.benchmarks import feast_server
from slipstream_cli.benchmarks.feast_server import FeastUnavailableError


def test_feast_that_can_not_be_installed_is_said_to_be_unavailable() -> None:
    with pytest.raises(FeastUnavailableError, match="feast failed"):
        feast_server._run(["/nowhere/pip"], None, "feast")


def test_feast_is_called_from_other_folders_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("feast").mkdir()
    Path("feast", f"feast-{feast_server.RELEASE}.installed").touch()
    assert feast_server.installed(Path("feast"), print) == tmp_path / "feast" / "bin" / "python"
