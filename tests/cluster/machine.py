"""The cluster that the demo runs on: KUBECONFIG's, or one that is started for it and ended."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.kubectl import ClusterError, Kubectl

# A program that starts a cluster on this machine (`up --dir DIR --keda --network-policies`, and
# options for more controllers), copies images of the Docker engine onto it
# (`load --dir DIR IMAGE...`), and ends it (`down --dir DIR`).
PROGRAM = "CLUSTER_PROGRAM"
START_LIMIT_S = 300.0
LOAD_LIMIT_S = 600.0


class NoClusterError(ClusterError):
    """There is nowhere to run."""


def lacking(images: Sequence[str], *, building: bool) -> list[str]:
    """Name everything that the demo lacks on this machine, each with the way to get it.

    Args:
        images: Images that the Docker engine must have before anything is built. KUBECONFIG's
            cluster has its own.
        building: Whether the demo builds images.
    """
    found = []
    if shutil.which("kubectl") is None:
        found.append("kubectl (kubernetes.io/docs/tasks/tools)")
    starts = not os.environ.get("KUBECONFIG")
    if starts:
        program = os.environ.get(PROGRAM, "")
        if not program or not Path(program).exists():
            found.append(
                "a cluster (KUBECONFIG names one that is yours to use, or CLUSTER_PROGRAM a program"
                " that starts one: deploy/README.md)"
            )
        elif os.geteuid() != 0:
            found.append(f"root, as {program} starts a node")
    if starts or building:
        if not _engine_has():
            found.append("a Docker engine (docs.docker.com/engine/install)")
        elif starts:
            found += [
                f"image {image} (docker pull, or leave out --no-build)"
                for image in images
                if not _engine_has(image)
            ]
    return found


def _engine_has(*image: str) -> bool:
    """Whether a Docker engine answers, and has the image."""
    command = ["docker", "image", "inspect", *image] if image else ["docker", "info"]
    return (
        shutil.which("docker") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


@contextmanager
def cluster(images: Sequence[str], controllers: Sequence[str] = ()) -> Iterator[Kubectl]:
    """A cluster that has these images. One that was started for the block ends with it.

    `controllers` are the program's options for those that parts need, in addition to KEDA.

    On KUBECONFIG's cluster, whoever calls has brought the images there. `lacking` has found
    nothing.
    """
    if os.environ.get("KUBECONFIG"):
        yield Kubectl(os.environ["KUBECONFIG"])
        return
    program = os.environ[PROGRAM]
    # A mount that the kernel still holds for a moment must not hide the report.
    with tempfile.TemporaryDirectory(
        prefix="slipstream-cluster-", ignore_cleanup_errors=True
    ) as folder:
        own = ("--dir", folder)
        try:
            try:
                up = ("up", *own, "--keda", "--network-policies", *controllers)
                _call(program, *up, limit_s=START_LIMIT_S)
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
