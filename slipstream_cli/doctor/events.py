"""Figures of the newest events in the lake."""

import time

from slipstream.evaluation.data_checks import COLUMNS, EventFigures
from slipstream.stores.lake_reader import LakeReader
from slipstream.stores.tables import INTERACTIONS
from slipstream_cli.doctor.findings import Limits


def read_events(lake: LakeReader, limits: Limits) -> EventFigures:
    """Count the newest interactions, until a limit of rows, bytes or seconds is reached.

    Raises:
        LakeUnavailableError: The lake can't be read.
    """
    figures = EventFigures(total=lake.count(INTERACTIONS))
    until, read_bytes = time.monotonic() + limits.seconds, 0
    for batch in lake.newest(INTERACTIONS, COLUMNS):
        figures.count(batch.slice(0, limits.events - figures.sampled))
        read_bytes += batch.nbytes
        if (
            figures.sampled >= limits.events
            or read_bytes >= limits.event_bytes
            or time.monotonic() > until
        ):
            break
    return figures
