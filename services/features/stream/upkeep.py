"""Keeps the lake's tables in shape: small files are merged, files that no kept version needs are
deleted, and so are those that hold what was erased.
"""

import threading
import time

from services.features.settings import FeaturesSection
from slipstream.chassis.logging import get_logger
from slipstream.stores.lake import SCHEMAS, Lake, LakeUnavailableError

log = get_logger(__name__)


def keep_lake(lake: Lake, settings: FeaturesSection, stop: threading.Event) -> None:
    """Until `stop` is set, look after all tables every `lake_compact_every_s`; safe in several
    processes at once.
    """
    vacuum_at = 0.0
    while not stop.wait(settings.lake_compact_every_s):
        try:
            for table in SCHEMAS:
                merged = lake.compact(table, settings.lake_small_files)
                if merged:
                    log.info("merged small files", table=table, fewer=merged)
            if time.monotonic() >= vacuum_at:
                vacuum_at = time.monotonic() + settings.lake_vacuum_every_hours * 3600
                for table in SCHEMAS:
                    deleted = lake.vacuum(
                        table, int(settings.lake_retention_days * 24), settings.lake_erasure_hours
                    )
                    if deleted:
                        log.info(
                            "deleted files that no kept version needs", table=table, files=deleted
                        )
        except LakeUnavailableError as error:
            log.warning("upkeep of the lake failed; it is tried again", reason=str(error))
