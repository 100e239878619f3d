"""The replay of an interaction file through ingestion's REST API, as a shop would send its history.

The file is read as `slipstream.datasets.imports` reads exports, without questions to the user.
"""

from pathlib import Path

from slipstream.contracts.progress import Progress
from slipstream.datasets.imports.sending import ReplayReport, Target, send
from slipstream.datasets.imports.sources import ImportFileError, find_files
from slipstream.datasets.imports.surveys import (
    Export,
    Survey,
    open_export,
    questions,
    refuse_without_items,
)
from slipstream.datasets.imports.understanding import Choices, Kind


def replay(
    path: str | Path,
    *,
    url: str,
    write_key: str,
    items: str | Path | None = None,
    speed: float | None = None,
    batch_size: int = 500,
    concurrency: int = 4,
    progress: Progress | None = None,
) -> ReplayReport:
    """Send the events of `path`, after the items of `items`, to the ingestion service at `url`.
    `speed` is a factor of the timestamps' pace; None sends as fast as possible. `progress` is
    called from this thread.

    Raises:
        ReplayError: Retries do not help, or the write key is refused.
        ImportFileError: A file can't be read, or leaves a question open.
    """
    if speed is not None and speed <= 0:
        raise ValueError("speed must be above 0")
    exports = [] if items is None else [surveyed(str(items), "items")]
    exports.append(surveyed(str(path), "events"))
    target = Target(url, write_key, speed, batch_size, concurrency)
    return send(exports, target, progress, lambda _name, _rejection: None)


def surveyed(path: str, kind: Kind) -> tuple[Export, Survey]:
    """A file of that kind, with its survey.

    Raises:
        ImportFileError: The file can't be read, is a folder of several, or leaves a question open.
    """
    files = find_files(path)
    if len(files) > 1:
        raise ImportFileError(f"{path}: the folder has several files; name one")
    export = open_export(files[0], Choices(), kind)
    survey = export.survey()
    refuse_without_items(export, survey)
    if asked := questions(export, survey):
        raise ImportFileError(f"{path}: {' '.join(asked)}")
    return export, survey
