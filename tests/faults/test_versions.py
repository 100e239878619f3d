"""The other version of a mixed stack, as git finds it."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.troubles.versions import Versions, version_before

Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """Runs git in a new repository in the test's folder."""

    def run(*arguments: str) -> str:
        identity = ("-c", "user.name=a test", "-c", "user.email=test@example.com")
        command = ["git", "-C", str(tmp_path / "origin"), *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    (tmp_path / "origin" / "services").mkdir(parents=True)
    run("init", "--quiet")
    return run


def commit(git: Git, folder: Path, text: str) -> str:
    """The id of a new commit, with a file of this text in the folder."""
    (folder / "file").write_text(text)
    git("add", ".")
    git("commit", "--quiet", "-m", text)
    return git("rev-parse", "HEAD")


def test_last_release_is_taken_and_without_one_what_stood_before_the_newest_change(
    git: Git, tmp_path: Path
) -> None:
    root = tmp_path / "origin"
    assert version_before(root) == ""
    first = commit(git, root / "services", "first")
    assert version_before(root) == ""
    second = commit(git, root / "services", "second")
    commit(git, root, "no code")
    assert version_before(root) == first
    git("tag", "v1.0.0", second)
    assert version_before(root) == second
    shallow = tmp_path / "shallow"
    git("clone", "--quiet", "--depth=1", root.as_uri(), str(shallow))
    assert version_before(shallow) == ""


def test_history_that_is_lacking_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert "git fetch --unshallow" in Versions().lacking()
    assert Versions("a-commit").lacking() == ""
