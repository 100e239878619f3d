"""Exchange: files by which the service and a run know of one another.

    <exchange>/<namespace>/<run>/
        champion/…       bundle that the challenger is measured against; absent without one
        checkpoints/…    what the run has to keep for the next start
        job.json         the job; written last by the service, and deleted first
        progress.json    latest message, with the facts of earlier ones
        bundle-<id>/…    the new bundle
        result.json      result, or the reason of a failure; written last by the run

A start that another one overtakes does no harm: each writes a bundle directory of its own, and
`result.json` names the one that counts.

A run on the service's machine uses the champion, the checkpoints and the bundle where
the service has them; the three JSON files are all that passes.
"""

import json
import secrets
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from services.training.run.job import Job, TrainingResult
from services.training.settings import TrainingSettings
from slipstream.chassis.settings import LakeSettings
from slipstream.stores.object_store import ObjectStore

_JOB, _PROGRESS, _RESULT = "job.json", "progress.json", "result.json"
CHECKPOINTS, _CHAMPION = "checkpoints", "champion"
# Credentials stay out of the files: a run has those of its own environment.
_SECRETS: Final = {"job": {"lake": {"storage_options"}, "training": {"tracking_uri"}}}


class HandedJob(BaseModel):
    """A job as `job.json` has it. Its paths are the service's.

    Attributes:
        job: The job.
        request_id: Id of the request that the run answers.
        local: Whether the run computes on the service's machine and by these paths.
    """

    job: Job
    request_id: str = ""
    local: bool = False


class RunResult(BaseModel):
    """Result of a run as `result.json` has it: `trained` and `bundle`, or else `failed`.

    Attributes:
        trained: Result of a run that made a bundle.
        bundle: Name of the directory that holds it; empty where it is at the job's `output`.
        failed: Reason, for people, why there is none.
    """

    trained: TrainingResult | None = None
    bundle: str = ""
    failed: str = ""


def open_exchange(settings: TrainingSettings) -> "Exchange":
    """The exchange of the settings. Raises ValueError for a URI of an unknown kind."""
    section = settings.training
    uri = section.exchange or str(settings.artifacts.directory / "exchange")
    return Exchange(ObjectStore(uri, exchange_options(settings)).below(settings.namespace))


def exchange_options(settings: TrainingSettings) -> dict[str, str]:
    """The storage options of the exchange: its own, or else the lake's."""
    return settings.training.exchange_options or settings.lake.storage_options


class Exchange:
    """Files of all runs of a namespace, on a folder that both sides mount, or on S3."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def of(self, run_id: str) -> "RunFiles":
        """The files of one run."""
        return RunFiles(self._store.below(run_id))

    def runs(self) -> list[str]:
        """Ids of the runs that have any file, oldest first."""
        return sorted({name.partition("/")[0] for name in self._store.names() if "/" in name})

    def open_run(self) -> "RunFiles | None":
        """The files of the oldest run that has a job and no result; None without one.

        A run on the service's machine is the service's own.
        """
        names = set(self._store.names())
        for run_id in sorted(name.partition("/")[0] for name in names if name.endswith(_JOB)):
            if f"{run_id}/{_JOB}" in names and f"{run_id}/{_RESULT}" not in names:
                handed = (files := self.of(run_id)).handed()
                if handed is not None and not handed.local:
                    return files
        return None


class RunFiles:
    """Files of one run; the service hands over and collects, the run receives and sends."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.uri = store.uri

    def hand_over(self, job: Job, request_id: str, *, local: bool = False) -> None:
        """Write what the run needs, unless an earlier call has done so."""
        if self.handed() is not None:
            return
        if not local:
            if job.champion is not None and job.champion.is_dir():
                self._store.put(job.champion, _CHAMPION)
            self._store.put(job.checkpoints, CHECKPOINTS)
        handed = HandedJob(job=job, request_id=request_id, local=local)
        # An older service, after a rollback, knows no setting that is newer than it.
        content = handed.model_dump_json(exclude=_SECRETS, exclude_defaults=True)
        self._store.write(_JOB, content.encode())

    def handed(self) -> HandedJob | None:
        """The job; None where none was handed over, or where it was called off."""
        content = self._store.read(_JOB)
        return None if content is None else HandedJob.model_validate_json(content)

    def progress(self) -> dict[str, Any] | None:
        """The run's latest message, see `ProgressReporter`; None before the first."""
        content = self._store.read(_PROGRESS)
        return None if content is None else dict(json.loads(content))

    def result(self) -> RunResult | None:
        """The result; None while the run is under way."""
        content = self._store.read(_RESULT)
        return None if content is None else RunResult.model_validate_json(content)

    def collect(self, result: RunResult, output: Path) -> None:
        """Copy the bundle of a result, unless it is there."""
        if result.bundle:
            self._store.fetch(result.bundle, output)

    def fetch_checkpoints(self, directory: Path) -> None:
        """Copy the checkpoints into a directory."""
        self._store.fetch(CHECKPOINTS, directory)

    def drop(self) -> None:
        """Delete everything; a run that is under way ends when it misses its job."""
        self._store.delete(_JOB)  # first, or the rest would look like a run that has not begun
        self._store.clear()

    def receive(self, job: Job, place: Path, lake: LakeSettings) -> Job:
        """The job with its files on this machine.

        A start that finds checkpoints reads the versions of the lake that they were made on. A
        pinned job reads what its first start has read.

        Args:
            place: Empty directory for the files.
            lake: Settings of the lake as this machine reaches it.
        """
        checkpoints, champion = place / CHECKPOINTS, place / _CHAMPION
        self.fetch_checkpoints(checkpoints)
        self._store.fetch(_CHAMPION, champion)
        changes: dict[str, Any] = {
            "lake": lake,
            "output": place / "bundle",
            "checkpoints": checkpoints,
            "champion": champion if job.champion is not None else None,
        }
        told = self.progress() or {}
        if (job.pinned or any(checkpoints.iterdir())) and "lake_version" in told:
            changes |= {name: told.get(name) for name in ("lake_version", "catalog_version")}
        return job.model_copy(update=changes)

    def send_progress(self, message: dict[str, Any]) -> None:
        """Replace the latest message."""
        self._store.write(_PROGRESS, json.dumps(message).encode())

    def send_checkpoint(self, file: Path) -> None:
        """Replace one file of the checkpoints."""
        self._store.put_file(file, f"{CHECKPOINTS}/{file.name}")

    def send_result(self, trained: TrainingResult, output: Path | None) -> None:
        """Copy the bundle, and tell of it; None where it is at the job's `output` already."""
        bundle = "" if output is None else f"bundle-{secrets.token_hex(4)}"
        if output is not None:
            self._store.put(output, bundle)
        self._send(RunResult(trained=trained, bundle=bundle))

    def send_failure(self, reason: str) -> None:
        """Tell why there is no bundle and why another start would make none."""
        self._send(RunResult(failed=reason))

    def _send(self, result: RunResult) -> None:
        self._store.write(_RESULT, result.model_dump_json().encode())
