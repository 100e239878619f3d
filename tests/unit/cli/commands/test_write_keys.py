"""`slipstream write-keys` on a real Redis."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slipstream_cli.__main__ import cli


@pytest.fixture
def run(redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("SLIPSTREAM_REDIS__URL", redis_url)
    monkeypatch.setenv("SLIPSTREAM_NAMESPACE", namespace)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["write-keys", *arguments, "--data-dir", str(tmp_path)])

    return invoke


def test_key_is_shown_once_rotated_and_revoked(run) -> None:  # type: ignore[no-untyped-def]
    key = run("add", "shop").stdout.strip()
    assert len(key) == 32
    listed = run("list").stdout
    assert "shop" in listed and "counts" in listed and key not in listed
    new = run("rotate", "shop", "--grace", "2h").stdout.strip()
    listed = run("list").stdout.splitlines()
    assert new != key and ["ends" in line for line in listed] == [True, False]
    assert "2 keys of shop revoked" in run("revoke", "shop").stdout
    assert all("revoked" in line for line in run("list").stdout.splitlines())
    assert run("revoke", "shop").exit_code == 1


@pytest.mark.parametrize(
    "arguments", [("add", "a b"), ("add", "a:b"), ("rotate", "a", "--grace", "soon")]
)
def test_bad_arguments_are_refused(run, arguments: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    assert run(*arguments).exit_code == 2


def test_redis_away_is_one_clear_line(run, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("SLIPSTREAM_REDIS__URL", "redis://127.0.0.1:1/0")
    answer = run("list")
    assert (
        answer.exit_code == 1
        and answer.output.startswith("Error: Redis: ")
        and "Traceback" not in answer.output
    )
