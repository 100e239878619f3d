import stat
import tempfile
from pathlib import Path

import pytest

from slipstream_cli.local.data_folder import (
    data_folder_lock,
    note,
    restore_runs,
    running_stack,
    running_stacks,
    services_stopped,
)
from slipstream_cli.local.plan import make_plan
from slipstream_cli.local.processes import StartError
from slipstream_cli.local.supervisor import Supervisor
from slipstream_cli.local.terminal import Terminal


def test_up_refuses_a_data_folder_that_is_in_use(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, {}, any_ports=True)
    with data_folder_lock(plan):
        assert running_stack(tmp_path) == plan.description
        with pytest.raises(StartError, match="already runs on"):
            Supervisor(plan, Terminal()).start()
    assert running_stack(tmp_path) == {}


def test_a_data_folder_is_its_owner_s_alone_unless_others_use_it(tmp_path: Path) -> None:
    for before, after in ((0o755, 0o700), (0o1777, 0o1777)):
        tmp_path.chmod(before)
        with data_folder_lock(make_plan(tmp_path, {}, any_ports=True)):
            assert stat.S_IMODE(tmp_path.stat().st_mode) == after


def test_the_write_key_in_the_lock_is_for_its_owner_alone(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, {}, any_ports=True)
    lock = tmp_path / "lock"
    with data_folder_lock(plan):
        assert plan.write_key in lock.read_text()
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
        assert running_stack(tmp_path) == plan.description


@pytest.fixture(autouse=True)
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path


def test_a_stack_is_named_for_as_long_as_it_runs(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "shop", {}, any_ports=True)
    note(plan.directory)
    assert running_stacks() == []
    with data_folder_lock(plan):
        note(plan.directory)
        assert running_stacks() == [plan.directory]
    assert running_stacks() == []


def test_notes_that_others_can_write_are_not_read(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "shop", {}, any_ports=True)
    with data_folder_lock(plan):
        note(plan.directory)
        (folder,) = tmp_path.glob("slipstream-*")
        folder.chmod(0o777)
        assert running_stacks() == []


def test_addresses_of_servers_have_no_passwords(tmp_path: Path) -> None:
    given = {
        "SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS": "kafka:9092",
        "SLIPSTREAM_REDIS__URL": "rediss://:secret@redis:6379/0",
        "SLIPSTREAM_DATABASE__URL": "postgresql+psycopg://shop:secret@db/shop",
    }
    assert make_plan(tmp_path, given, any_ports=True).servers == {
        "broker": "kafka:9092",
        "redis": "rediss://:***@redis:6379/0",
        "lake": str(tmp_path / "lake"),
        "database": "postgresql+psycopg://shop:***@db/shop",
    }


def test_a_restore_runs_until_its_block_ends(tmp_path: Path) -> None:
    assert not restore_runs(tmp_path)
    with services_stopped(tmp_path):
        assert restore_runs(tmp_path)
    assert not restore_runs(tmp_path)
