"""The cluster that the demo runs on: KUBECONFIG's, or one that is started for it and ended."""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.kubectl import ClusterError, Kubectl

# A program that starts a cluster on this machine (`up --dir DIR --keda --network-policies`), copies
# images of the Docker engine onto it (`load --dir DIR IMAGE...`), and ends it (`down --dir DIR`).
PROGRAM = "CLUSTER_PROGRAM"
START_LIMIT_S = 300.0
LOAD_LIMIT_S = 600.0
NEEDED = (
    "no cluster: set KUBECONFIG to one that is yours to use, or CLUSTER_PROGRAM to a program that "
    "starts one (deploy/README.md)"
)


class NoClusterError(ClusterError):
    """There is nowhere to run."""


@contextmanager
def cluster(images: Sequence[str]) -> Iterator[Kubectl]:
    """A cluster that has these images. One that was started for the block ends with it.

    On KUBECONFIG's cluster, whoever calls has brought the images there.
    """
    if os.environ.get("KUBECONFIG"):
        yield Kubectl(os.environ["KUBECONFIG"])
        return
    program = os.environ.get(PROGRAM, "")
    if not program or not Path(program).exists():
        raise NoClusterError(NEEDED)
    if os.geteuid() != 0:
        raise NoClusterError(f"{program} starts a node, and needs root for it")
    # A mount that the kernel still holds for a moment must not hide the report.
    with tempfile.TemporaryDirectory(
        prefix="slipstream-cluster-", ignore_cleanup_errors=True
    ) as folder:
        own = ("--dir", folder)
        try:
            try:
                _call(program, "up", *own, "--keda", "--network-policies", limit_s=START_LIMIT_S)
            except ClusterError as error:
                raise NoClusterError(f"no cluster starts here: {error}") from error
            _call(program, "load", *own, *images, limit_s=LOAD_LIMIT_S)
            yield Kubectl(f"{folder}/kubeconfig")
        finally:
            _call(program, "down", *own, limit_s=START_LIMIT_S)


def _call(*command: str, limit_s: float) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{' '.join(command)}: not in {limit_s:.0f} s") from error
    if done.returncode:
        raise ClusterError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
