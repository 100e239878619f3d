"""Reader of the newest interactions of the lake, within limits."""

import time

from slipstream.stores.lake_reader import LakeReader
from slipstream.stores.tables import INTERACTIONS
from slipstream_cli.doctor.event_figures import COLUMNS, EventFigures
from slipstream_cli.doctor.limits import Limits


def read_events(lake: LakeReader, limits: Limits) -> EventFigures:
    """Count the newest interactions, until a limit of rows, bytes or seconds is reached.

    Raises:
        LakeUnavailableError: The lake can't be read.
    """
    figures = EventFigures(total=lake.count(INTERACTIONS))
    until, read_bytes = time.monotonic() + limits.seconds, 0
    for batch in lake.newest(INTERACTIONS, COLUMNS):
        rows = batch.slice(0, limits.events - figures.sampled)
        figures.count(zip(*(rows[name].to_pylist() for name in COLUMNS), strict=True))
        read_bytes += batch.nbytes
        if (
            figures.sampled >= limits.events
            or read_bytes >= limits.event_bytes
            or time.monotonic() > until
        ):
            break
    return figures
