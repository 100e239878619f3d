"""Upkeep of the lake's tables.

Small files are merged. Files that no kept version needs are deleted, and so are those that hold
erased rows.
"""

import threading
import time

from services.features.settings import FeaturesSection
from slipstream.chassis.logging import get_logger
from slipstream.contracts.late_records import MARKED_MS
from slipstream.contracts.times import DAY_MS, now_ms
from slipstream.stores.lake import RECOMMENDATIONS, SCHEMAS, Lake, LakeUnavailableError

log = get_logger(__name__)


def keep_lake(lake: Lake, settings: FeaturesSection, stop: threading.Event) -> None:
    """Look after all tables every `lake_compact_every_s`, until `stop` is set.

    Several processes may do so at once.
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
                since_ms = now_ms() - int(settings.lake_circumstances_days * DAY_MS)
                if emptied := lake.empty(RECOMMENDATIONS, "circumstances", since_ms):
                    log.info("emptied the circumstances of old slates", days=emptied)
                lake.forget_visitors(now_ms() - MARKED_MS)
                for table in SCHEMAS:
                    kept_hours = int(settings.lake_retention_days * 24)
                    deleted = lake.vacuum(table, kept_hours, settings.lake_erasure_hours)
                    if deleted:
                        log.info("deleted files of old versions", table=table, files=deleted)
        except LakeUnavailableError as error:
            log.warning("upkeep of the lake failed; it is tried again", reason=str(error))
