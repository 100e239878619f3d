"""Origin of a model besides its data: commit, image, settings, packages and machine."""

import hashlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from services.training.settings import TrainingSection
from slipstream.models.device import device_name

# Settings that say where a run computes. They change nothing about its model.
_PLACES = {
    "tracking_uri",
    "launcher",
    "exchange",
    "exchange_options",
    "job_template",
    "job_kind",
    "job_queue",
    "niceness",
    "code_commit",
}


def program_versions(settings: TrainingSection) -> dict[str, str | None]:
    """The commit of the program, the image where `RUN_IMAGE` names it, and a digest of settings."""
    text = settings.model_dump_json(exclude=_PLACES)
    return {
        "code_commit": settings.code_commit or code_commit(),
        "image": os.environ.get("RUN_IMAGE", ""),
        "settings_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


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


_PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "optuna", "slipstream")


def environment() -> dict[str, str]:
    """Python, platform, processors and device of this process, versions of installed packages."""
    processors = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )
    described = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": str(processors),
        "device": device_name(),
    }
    for name in _PACKAGES:
        try:
            described[name] = version(name)
        except PackageNotFoundError:
            continue
    return described
