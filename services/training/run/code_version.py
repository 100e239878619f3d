"""Version of the code that trains: the commit of this file's repository, where git knows one."""

import subprocess
from pathlib import Path


def code_commit() -> str | None:
    """The full hash, with `+` when tracked files were changed since; None outside a repository."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=5, check=True
        ).stdout.strip()

    try:
        # Only a repository that holds this very file counts: a virtual environment may lie inside
        # another project's.
        if not git("ls-files", "--", Path(__file__).name):
            return None
        return git("rev-parse", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None
