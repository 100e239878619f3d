"""Which code trains: the commit of the repository that this file is in, where there is one and git
is installed.
"""

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
        # Only a repository that holds this very file is ours: a virtual environment may lie inside
        # somebody else's.
        if not git("ls-files", "--", Path(__file__).name):
            return None
        return git("rev-parse", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None
