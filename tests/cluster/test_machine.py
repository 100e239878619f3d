"""The demo names all that it lacks before it builds; a cluster that it starts, it ends."""

from pathlib import Path

import pytest

from tests.cluster.kubectl import ClusterError
from tests.cluster.machine import NoClusterError, cluster, lacking


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that has none of the programs. The folder is where it looks for them."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("CLUSTER_PROGRAM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def _program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_everything_that_is_lacking_is_named_at_once(bare: Path) -> None:
    kubectl, a_cluster, engine = lacking(["redis:8"], building=True)
    assert kubectl.startswith("kubectl (")
    assert "KUBECONFIG" in a_cluster and "CLUSTER_PROGRAM" in a_cluster
    assert engine.startswith("a Docker engine (")


def test_images_that_the_engine_has_not_are_named(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("kubectl", "cluster"):
        _program(bare / name, "")
    _program(bare / "docker", '[ "$1" = info ] || [ "$3" = kafka:4 ]')
    monkeypatch.setenv("CLUSTER_PROGRAM", str(bare / "cluster"))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    (image,) = lacking(["kafka:4", "redis:8"], building=True)
    assert image.startswith("image redis:8 (")


def test_a_cluster_of_ones_own_needs_no_engine_unless_images_are_built(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(bare / "kubectl", "")
    monkeypatch.setenv("KUBECONFIG", "somewhere")
    assert lacking(["redis:8"], building=False) == []
    assert len(lacking(["redis:8"], building=True)) == 1


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
    calls = tmp_path / "calls"
    program = _program(tmp_path / "program", f'echo "$1" >>{calls}\n[ "$1" != {fails} ] || exit 3')
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("CLUSTER_PROGRAM", str(program))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(ClusterError, match=fails) as raised, cluster(["image"]):
        pass
    assert (type(raised.value), calls.read_text().split()) == (error, made)
