"""The tables of monitoring, and their migrations, oldest first."""

from typing import Final

from services.monitoring import alert_repository
from services.monitoring.console import session_repository
from services.monitoring.control import (
    access_repository,
    experiments_repository,
    named_records_repository,
)
from services.monitoring.counting import tables as counting
from services.monitoring.people import repository as people
from slipstream.stores.lease import lease_tables
from slipstream.stores.migrations import Migrations

MIGRATIONS: Final = Migrations(
    "monitoring_schema_version",
    (
        counting.credits.metadata,  # with those of slates
        alert_repository.TABLES,
        access_repository.TABLES,
        session_repository.TABLES,
        people.TABLES,
        named_records_repository.TABLES,
        experiments_repository.TABLES,
        lease_tables("monitoring"),
    ),
)
