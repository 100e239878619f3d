"""Where there is no cluster, the demo says so; a cluster that it starts, it ends."""

from pathlib import Path

import pytest

from tests.cluster.kubectl import ClusterError
from tests.cluster.machine import NoClusterError, cluster


def test_nowhere_to_run_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("CLUSTER_PROGRAM", raising=False)
    with pytest.raises(NoClusterError, match="KUBECONFIG"), cluster([]):
        pass


@pytest.mark.parametrize(
    ("fails", "error", "made"),
    [("up", NoClusterError, ["up", "down"]), ("load", ClusterError, ["up", "load", "down"])],
)
def test_a_cluster_that_is_started_is_ended_whatever_fails(
    fails: str,
    error: type[ClusterError],
    made: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls, program = tmp_path / "calls", tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$1" >>{calls}\n[ "$1" != {fails} ] || exit 3\n')
    program.chmod(0o755)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("CLUSTER_PROGRAM", str(program))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(ClusterError, match=fails) as raised, cluster(["image"]):
        pass
    assert (type(raised.value), calls.read_text().split()) == (error, made)
