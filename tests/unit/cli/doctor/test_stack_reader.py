from pathlib import Path

import pytest
from pydantic import SecretStr

from slipstream.chassis.settings import DatabaseSettings
from slipstream.stores.metadata import DatabaseUnavailableError, engine
from slipstream.stores.migrations import migrate
from slipstream_cli.backups.places import MIGRATIONS
from slipstream_cli.doctor.stack_reader import read_disks, read_tables, rule_filters


def test_tables_are_compared_and_a_database_is_not_made(tmp_path: Path) -> None:
    file = tmp_path / "metadata.db"
    settings = DatabaseSettings(url=SecretStr(f"sqlite:///{file}"))
    with pytest.raises(DatabaseUnavailableError, match="there is no database"):
        read_tables(settings, MIGRATIONS)
    assert not file.exists()
    database = engine(settings)
    migrate(database, MIGRATIONS["training"])
    database.dispose()
    lacking = read_tables(settings, MIGRATIONS)
    assert lacking["training"] == [] and lacking["monitoring"]


def test_filters_of_rules_are_those_that_are_on_and_alike_for_all_visitors() -> None:
    rules = [
        {"name": "on", "filter": 'category == "tea"'},
        {"name": "off", "filter": 'category == "tea"', "enabled": False},
        {"name": "for-all", "filter": ""},
        {"name": "own", "filter": "brand in seen"},
        {"name": "of-a-newer-version", "filter": "category ~ tea"},
    ]
    found = rule_filters([{"name": "home", "policy": {"rules": rules}}])
    assert [(it.placement, it.rule, it.text) for it in found] == [
        ("home", "on", 'category == "tea"')
    ]
    many = {"name": "many", "policy": {"rules": rules[:1] * 150}}
    assert len(rule_filters([many])) == 100


def test_disks_are_told_once_each(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    (disk,) = read_disks([tmp_path, tmp_path / "lake"])
    assert disk.folder == str(tmp_path)
    assert 0 < disk.used < disk.total
