"""Files that stop a pod of load and hold what it saw."""

import time
from pathlib import Path

STOP = "/tmp/stop"  # noqa: S108 - the pod's own
RESULT = "/tmp/result.json"  # noqa: S108
# The pod outlives its work by this, for whoever fetches the result.
KEPT_S = 1_800.0


def hand_over(path: str, content: bytes) -> None:
    """Put a result in place as a whole, and stay until somebody ends the pod."""
    part = Path(f"{path}.part")
    part.write_bytes(content)
    part.rename(path)
    time.sleep(KEPT_S)
