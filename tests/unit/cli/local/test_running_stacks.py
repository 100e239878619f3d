"""Notes of running stacks, which commands name where somebody meant another one."""

import tempfile
from pathlib import Path

import pytest

from slipstream_cli.local.data_folder import data_folder_lock
from slipstream_cli.local.plan import make_plan
from slipstream_cli.local.running_stacks import note, running_stacks


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
