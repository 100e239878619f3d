"""Environment of a run: its versions reproduce its figures, its machine explains its times."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "optuna", "slipstream")


def environment() -> dict[str, str]:
    """Python, platform, processors of this process, and versions of installed packages."""
    processors = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )
    described = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": str(processors),
    }
    for name in _PACKAGES:
        try:
            described[name] = version(name)
        except PackageNotFoundError:
            continue
    return described
