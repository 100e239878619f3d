"""The tables of training, and their migrations, oldest first."""

from typing import Final

from services.training import repository, waiting_alert_repository
from slipstream.stores.lease import lease_tables
from slipstream.stores.migrations import Migrations

MIGRATIONS: Final = Migrations(
    "training_schema_version",
    (repository.TABLES, waiting_alert_repository.TABLES, lease_tables("training")),
)
