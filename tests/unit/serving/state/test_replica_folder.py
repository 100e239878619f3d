"""Replicas on one volume keep their downloads apart, and clean up after one another."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from services.serving.state.replica_folder import HOSTNAME, replica_folder


def held(stack: ExitStack, volume: Path, hostname: str, *, leads: bool = True) -> Path:
    """The folder of a replica that lives until the stack ends, with a download in it."""
    folder = stack.enter_context(replica_folder(volume / HOSTNAME, leads=leads, hostname=hostname))
    (folder / "bundle").mkdir(exist_ok=True)
    (folder / "bundle" / "manifest.json").write_text("{}")
    return folder


def test_a_folder_without_the_placeholder_is_nobodys_but_the_services(tmp_path: Path) -> None:
    with ExitStack() as stack, replica_folder(tmp_path / "cache", leads=True) as folder:
        gone = held(stack, tmp_path, "gone")
        stack.close()
        with replica_folder(tmp_path / "cache", leads=True):
            assert (folder, list(tmp_path.iterdir())) == (tmp_path / "cache", [gone])


def test_replicas_that_live_leave_one_anothers_folders_alone(tmp_path: Path) -> None:
    with ExitStack() as stack:
        folders = [held(stack, tmp_path, name) for name in ("a", "b", "c")]
        assert [folder.name for folder in folders] == ["a", "b", "c"]
        assert all((folder / "bundle" / "manifest.json").exists() for folder in folders)


def test_the_folder_of_a_replica_that_is_gone_is_deleted_by_the_next_one(tmp_path: Path) -> None:
    with ExitStack() as gone:
        held(gone, tmp_path, "gone")
    with ExitStack() as stack:
        follows = held(stack, tmp_path, "follows", leads=False)
        assert {path.name for path in tmp_path.iterdir()} == {"gone", "follows"}
        leads = held(stack, tmp_path, "leads")
        assert set(tmp_path.iterdir()) == {follows, leads}


def test_a_replica_that_restarts_finds_what_it_had(tmp_path: Path) -> None:
    for _ in range(2):
        with ExitStack() as stack:
            held(stack, tmp_path, "a")
    with replica_folder(tmp_path / HOSTNAME, leads=True, hostname="a") as folder:
        assert (folder / "bundle" / "manifest.json").exists()


def test_processes_of_one_replica_hold_its_folder_together(tmp_path: Path) -> None:
    with ExitStack() as second:
        with ExitStack() as first:
            held(first, tmp_path, "a")
            held(second, tmp_path, "a", leads=False)
        with ExitStack() as other:
            held(other, tmp_path, "b")
            assert (tmp_path / "a" / "bundle").exists()


def test_folders_that_no_replica_made_stay(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "letter.txt").write_text("mine")
    with ExitStack() as stack:
        held(stack, tmp_path, "a")
        assert (tmp_path / "documents" / "letter.txt").read_text() == "mine"


def test_a_disk_that_refuses_costs_the_lock_alone(tmp_path: Path) -> None:
    (tmp_path / "volume").write_text("no folder")
    with replica_folder(tmp_path / "volume" / HOSTNAME, leads=True, hostname="a") as folder:
        assert folder == tmp_path / "volume" / "a"


def test_a_lock_taken_on_a_deleted_folder_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is deleted between its making and its locking, once."""
    import fcntl

    flock, deleted = fcntl.flock, []

    def deleting(lock: int, operation: int) -> None:
        if not deleted:
            deleted.append(operation)
            (tmp_path / "a" / ".replica-lock").unlink()
            (tmp_path / "a").rmdir()
        flock(lock, operation)

    monkeypatch.setattr("services.serving.state.replica_folder.fcntl.flock", deleting)
    with replica_folder(tmp_path / HOSTNAME, leads=True, hostname="a"):
        assert (tmp_path / "a" / ".replica-lock").exists()
    assert deleted == [fcntl.LOCK_SH]
