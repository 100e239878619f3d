"""Bundle directories by version on a real file system."""

from pathlib import Path

import pytest

from slipstream.chassis.settings import ArtifactSettings
from slipstream.stores.artifacts import ArtifactNotFoundError, Artifacts


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(ArtifactSettings(directory=tmp_path / "models"))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    directory = tmp_path / "bundle"
    directory.mkdir()
    (directory / "manifest.json").write_text("{}")
    (directory / "array.npy").write_bytes(b"\x00" * 1000)
    return directory


def test_put_keeps_a_copy_of_every_file(artifacts: Artifacts, bundle: Path) -> None:
    kept = artifacts.put("v1", bundle)
    assert artifacts.path("v1") == kept
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == {
        p.name: p.read_bytes() for p in bundle.iterdir()
    }
    assert artifacts.versions() == ["v1"]


def test_put_existing_version_is_refused(artifacts: Artifacts, bundle: Path) -> None:
    artifacts.put("v1", bundle)
    with pytest.raises(FileExistsError, match="v1"):
        artifacts.put("v1", bundle)


def test_put_that_fails_leaves_nothing(artifacts: Artifacts, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        artifacts.put("v1", tmp_path / "absent")
    assert artifacts.versions() == []
    assert not any((artifacts.root / "bundles").iterdir())


@pytest.mark.parametrize("version", ["", "..", "../v1", "a/b", ".hidden", "v1\n", "x" * 129])
def test_version_that_leads_out_of_the_folder_is_refused(
    artifacts: Artifacts, bundle: Path, version: str
) -> None:
    with pytest.raises(ValueError, match="can't name"):
        artifacts.put(version, bundle)
    with pytest.raises(ArtifactNotFoundError):
        artifacts.path(version)


def test_delete_removes_the_version_only(artifacts: Artifacts, bundle: Path) -> None:
    artifacts.put("v1", bundle)
    artifacts.put("v2", bundle)
    artifacts.delete("v1")
    assert artifacts.versions() == ["v2"]
    with pytest.raises(ArtifactNotFoundError):
        artifacts.delete("v1")


def test_sweep_removes_what_a_killed_process_left(artifacts: Artifacts, bundle: Path) -> None:
    artifacts.put("v1", bundle)
    (artifacts.root / "bundles" / ".v2.partial").mkdir()
    (artifacts.root / ".work-x").mkdir()
    artifacts.sweep()
    assert sorted(path.name for path in artifacts.root.rglob("*") if path.is_dir()) == [
        "bundles",
        "v1",
    ]


def test_workspace_is_removed_after_a_failure(artifacts: Artifacts) -> None:
    with pytest.raises(RuntimeError), artifacts.workspace() as place:
        (place / "file").touch()
        raise RuntimeError
    assert not place.exists()
