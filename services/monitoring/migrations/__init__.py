"""Migrations of monitoring's tables, one module for each revision."""

from pathlib import Path
from typing import Final

from slipstream.stores.migrations import Migrations

MIGRATIONS: Final = Migrations(Path(__file__).parent, "monitoring_schema_version")
