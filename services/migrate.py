"""Job that makes and migrates the tables of every service: `python -m services migrate`.

It spares services the work at their start, and shows a migration that fails before a rollout.
Services migrate when they start all the same; they find nothing left to do. MLflow's tables belong
to training, which makes them with its own MLflow.
"""

import time
from typing import Final

import click
from pydantic import ValidationError

from services.monitoring.migrations import MIGRATIONS as MONITORING
from services.training.migrations import MIGRATIONS as TRAINING
from slipstream.chassis.dependencies import RefusedSettingsError
from slipstream.chassis.logging import configure_logging
from slipstream.chassis.settings import ServiceSettings, wrong_settings
from slipstream.stores.metadata import DatabaseUnavailableError, engine
from slipstream.stores.migrations import migrate

# Pause between looks for a database that does not answer yet (s).
PAUSE_S: Final = 0.5


def run_migrations(patience_s: float) -> None:
    """Bring all tables of the configured database to their newest revisions.

    Args:
        patience_s: Seconds to wait for a database that does not answer.

    Raises:
        click.ClickException: A setting is wrong, the tables are older than the first release, or
            the database did not answer in time.
    """
    try:
        settings = ServiceSettings()
    except ValidationError as error:
        raise click.ClickException(wrong_settings(error)) from error
    configure_logging(settings.log, "migrate")
    database = engine(settings.database)
    deadline = time.monotonic() + patience_s
    try:
        for migrations in (TRAINING, MONITORING):
            while True:
                try:
                    migrate(database, migrations)
                    break
                except RefusedSettingsError as error:
                    raise click.ClickException(str(error)) from error
                except DatabaseUnavailableError as error:
                    if time.monotonic() >= deadline:
                        raise click.ClickException(str(error)) from error
                    time.sleep(PAUSE_S)
    finally:
        database.dispose()
