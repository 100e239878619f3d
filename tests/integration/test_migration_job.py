"""The job that migrates the tables of every service."""

from collections.abc import Iterator

import pytest
from click import ClickException
from sqlalchemy import Engine, text

from services.migrate import run_migrations
from slipstream.chassis.settings import DatabaseSettings
from slipstream.stores import metadata
from slipstream.stores.migrations import Migrations, migrate
from slipstream_cli.local.processes import free_port
from tests.integration.test_migrations import MONITORING, TRAINING, revision


@pytest.fixture
def db(database_settings: DatabaseSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("SLIPSTREAM_DATABASE__URL", database_settings.url.get_secret_value())
    made = metadata.engine(database_settings)
    yield made
    made.dispose()


def test_the_job_migrates_both_services_and_finds_nothing_left_to_do(db: Engine) -> None:
    for _ in range(2):
        run_migrations(patience_s=0)
        for service in (TRAINING, MONITORING):
            assert revision(db, service) == service.newest


def test_the_job_refuses_tables_from_before_the_first_release(db: Engine) -> None:
    with db.begin() as connection:
        connection.execute(text("CREATE TABLE training_run (id INTEGER)"))
    with pytest.raises(ClickException, match="begin with an empty database"):
        run_migrations(patience_s=0)


def test_the_job_waits_for_a_database_that_is_not_there_yet(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def away_twice(database: Engine, migrations: Migrations) -> None:
        looks.append(migrations)
        if len(looks) < 3:
            raise metadata.DatabaseUnavailableError("it starts")
        migrate(database, migrations)

    monkeypatch.setattr("services.migrate.migrate", away_twice)
    monkeypatch.setattr("services.migrate.PAUSE_S", 0)
    run_migrations(patience_s=60)
    assert looks == [TRAINING] * 3 + [MONITORING]


def test_the_job_fails_where_no_database_answers_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "SLIPSTREAM_DATABASE__URL", f"postgresql+psycopg://u:p@127.0.0.1:{free_port()}/d"
    )
    with pytest.raises(ClickException, match="is not available"):
        run_migrations(patience_s=0)
