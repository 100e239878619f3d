"""The ledger of imports: which events of a file the lake of a stack has already."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slipstream.datasets.imports.surveys import Export, Survey

_LAKE: Final = "SLIPSTREAM_LAKE__URI"
# Rows of the lake that are looked at; of more, ingestion's verdicts are shown.
MOST_ROWS: Final = 5_000_000


def events_in_lake(
    exports: "Sequence[tuple[Export, Survey]]", running: dict[str, str], data_dir: Path
) -> set[int] | None:
    """The hashes of the ids of events in the lake that are as old as those of the files.

    Ingestion remembers ids for a day and features drops what the lake has, so only the lake tells
    what an import adds.

    Args:
        exports: The files with their surveys.
        running: Description of the stack that is sent to; empty where that is not known.
        data_dir: Its data folder.

    Returns:
        The hashes, or None where the lake can't be read from here or has too many such events.
    """
    from slipstream.chassis.dependencies import DependencyUnavailableError
    from slipstream.stores.lake import INTERACTIONS, Lake
    from slipstream_cli.peers import features_settings

    times = [at for _, survey in exports for at in (survey.first, survey.last) if at is not None]
    if not times or not (running or _LAKE in os.environ):
        return None
    settings = features_settings(data_dir)
    found = set[int]()
    try:
        lake = Lake(settings.lake, settings.namespace)
        for batch in lake.scan(INTERACTIONS, columns=["event_id"], times=(min(times), max(times))):
            found.update(map(hash, batch["event_id"].to_pylist()))
            if len(found) > MOST_ROWS:
                return None
    except DependencyUnavailableError:
        return None
    return found
