"""Deletion of the versions that were learned from the lake before an erasure.

Each goes `erasure_hours` after the first erasure that takes something from below it. The lake has
the erasures and the registry the versions, so that nothing is kept in between: a deletion that is
killed is done again, and what a backup brings back is deleted again.

After half of that time, training looks for a successor of the champion: the newest version that
stays longer, passes the gate's rules that know no champion, and was never rolled back. While there
is none, training queues runs. At the end it promotes the successor, even if it is not proven
better. Without one the champion goes all the same, and serving answers with trending items.
"""

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from services.training.gate import FAULTS
from services.training.lake_erasures import Erasures, Learner, Reading, is_from_before
from services.training.metrics import TrainingMetrics
from services.training.model_events import event_of
from services.training.publish import ModelPublisher
from services.training.records import TransitionError
from services.training.runs import Runs
from services.training.settings import TrainingSection
from slipstream.chassis.logging import get_logger
from slipstream.contracts.events import ModelEventType
from slipstream.contracts.rest import AuditRecord, ModelsBeforeErasure, ModelVersion, RunRequest
from slipstream.contracts.times import HOUR_MS, format_time, now_ms
from slipstream.contracts.vocabulary import CHAMPION
from slipstream.stores.metadata import AuditLog

log = get_logger(__name__)

_REASON: Final = "it was learned from the lake before an erasure"
# Runs that are queued, at least, while the champion has no successor.
_ATTEMPTS: Final = 4


@dataclass(frozen=True)
class ModelDeletion:
    """The job of deleting versions. One thread uses `run`.

    Attributes:
        erasures: The lake's erasures.
        publisher: Registry, decisions and events; promotes the successor.
        runs: The queue of runs.
        audit: Gets a record before each promotion and deletion.
        metrics: Metrics of the service.
        settings: How long versions stay.
    """

    erasures: Erasures
    publisher: ModelPublisher
    runs: Runs
    audit: AuditLog
    metrics: TrainingMetrics
    settings: TrainingSection

    @property
    def stay_ms(self) -> int:
        """How long a version from before an erasure may stay."""
        return int(self.settings.erasure_hours * HOUR_MS)

    def run(self, stop: threading.Event) -> None:
        """Delete what is due every `check_seconds`, until `stop` is set."""
        while not stop.wait(self.settings.check_seconds):
            if self.publisher.registry.wait_opened(0):
                self.step(now_ms())

    def step(self, now: int) -> None:
        """Delete the versions that expired by `now` (ms), and see to a new champion."""
        if not self.erasures.exist():
            return
        models = self.publisher.registry.kept()
        until = {model.version: at for model in models if (at := self._until(model)) is not None}
        due = [version for version, at in until.items() if at <= now]
        champion = next((model.version for model in models if CHAMPION in model.aliases), None)
        if champion is not None and not self._gives_way(champion, models, until, now):
            due = [version for version in due if version != champion]
        open_runs = self.publisher.repository.in_state("queued", "running")
        for run in open_runs:
            if (self._until(Reading.of(run)) or now + 1) <= now:
                log.warning("run is cancelled, as its lake is too old", run_id=run.run_id)
                with suppress(TransitionError):
                    self.runs.cancel(run.run_id)
        for version in due:
            # One that is being published goes when its run has ended.
            if version not in {run.run_id for run in open_runs}:
                self._delete(version, now)
                if version == champion and self.publisher.registry.alias(CHAMPION) is None:
                    log.error("there is no champion any more: trending items answer", was=version)
                    self.metrics.champion(None)
                    self.metrics.champion_deleted_at.set(0)

    def before(self, version: int, erased_at: int) -> ModelsBeforeErasure:
        """The versions and runs from before an erasure, and when the last version is deleted.

        A run that began before a deletion may hold the deleted version, to compare itself with it.

        Args:
            version: Version of the interactions without the erased rows.
            erased_at: When the erasure was done (ms).
        """
        publisher = self.publisher
        deleted_at = publisher.events.newest(ModelEventType.DELETED)
        return ModelsBeforeErasure(
            versions=[
                model.version
                for model in publisher.registry.kept()
                if is_from_before(model, version, erased_at)
            ],
            runs=[
                run.run_id
                for run in publisher.repository.in_state("queued", "running")
                if is_from_before(Reading.of(run), version, erased_at)
                or (run.started_at is not None and run.started_at < deleted_at)
            ],
            deleted_by=erased_at + self.stay_ms,
        )

    def _until(self, learner: Learner) -> int | None:
        """How long something may stay (ms); None where no erasure came after it."""
        first = self.erasures.first_after(learner)
        return None if first is None else first + self.stay_ms

    def _gives_way(
        self,
        champion: str,
        models: Sequence[ModelVersion],
        until: Mapping[str, int],
        now: int,
    ) -> bool:
        """Whether the champion may be deleted now; its successor is promoted before.

        Without a successor it waits for the end of one run: a service that was down has had none.
        """
        end = until.get(champion, now + self.stay_ms)
        since = end - self.stay_ms // 2
        successor = self._successor(models, until, max(end, now)) if since <= now else None
        missing = successor is None and since <= now
        self.metrics.champion_deleted_at.set(end / 1000 if missing else 0)
        if missing:
            self._ask_for_run(champion, since, end, now)
        if end > now:
            return False
        if successor is not None:
            self._record("promote", successor, now)
            self.publisher.promote(successor, f"champion {champion} goes: {_REASON}")
            return True
        last = self.publisher.repository.last_run()
        return last is not None and last.finished_at is not None and last.created_at >= since

    def _successor(
        self, models: Sequence[ModelVersion], until: Mapping[str, int], end: int
    ) -> str | None:
        """The newest version that stays beyond a time and may be champion; None without one."""
        refused = self.publisher.events.rolled_back()
        for model in models:
            version = model.version
            if until.get(version, end + 1) > end and version not in refused:
                decided = self.publisher.repository.decisions(version)
                sound = decided and (
                    decided[-1].outcome == "promoted" or decided[-1].numbers.get(FAULTS) == 0
                )
                if sound and self.publisher.registry.knows(version):
                    return version
        return None

    def _ask_for_run(self, champion: str, since: int, end: int, now: int) -> None:
        """Queue a run, unless one is under way, or was tried lately."""
        last = self.publisher.repository.last_run()
        pause = (end - since) // _ATTEMPTS
        if (
            last is not None
            and last.created_at >= since
            and (last.finished_at is None or now - last.finished_at < pause)
        ):
            return
        reason = f"champion {champion} is deleted by {format_time(end)}: {_REASON}"
        request = RunRequest(
            trigger="erasure", reason=reason, profile=self.settings.schedule_profile
        )
        if self.runs.request_unless_busy(request) is not None:
            log.warning(
                "the champion has no successor yet", version=champion, until=format_time(end)
            )

    def _delete(self, version: str, now: int) -> None:
        """Delete a version.

        The event comes first, by which training knows ever after that the version was deleted.
        """
        self._record("delete_model", version, now)
        events = self.publisher.events
        if not events.has(version, ModelEventType.DELETED):
            events.add(event_of(ModelEventType.DELETED, version, None, reason=_REASON), "")
        self.publisher.registry.delete(version)
        self.publisher.wake()
        log.warning("model deleted", version=version, reason=_REASON)

    def _record(self, action: str, version: str, now: int) -> None:
        """Keep the audit record of an act, before it."""
        detail = {"reason": _REASON}
        self.audit.add(
            AuditRecord(at=now, principal="training", action=action, subject=version, detail=detail)
        )
