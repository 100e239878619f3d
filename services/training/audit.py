"""The table of training's audit records: who promoted, rolled back and cancelled what."""

from typing import Final

from slipstream.stores.metadata import audit_table, new_metadata

TABLES: Final = new_metadata()
AUDIT: Final = audit_table("training_audit", TABLES)
