"""Publication of a bundle: registered, judged by the gate, promoted or refused, announced.

Promotion by hand and rollback are here, too, and so is a bundle's lineage, from its manifest and
the run's result.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from services.training import gate
from services.training.experiments import Lineage
from services.training.metrics import TrainingMetrics
from services.training.model_events import event_of
from services.training.records import Audit
from services.training.registry import ModelRegistry
from services.training.repository import ModelEventBook, Repository
from services.training.run.job import TrainingResult
from services.training.run.report import report
from services.training.settings import TrainingSection
from services.training.steps import read_steps, steps_of, tags_of
from slipstream.chassis.dependencies import DependencyUnavailableError
from slipstream.chassis.logging import get_logger, request_id
from slipstream.contracts.bundle import Manifest
from slipstream.contracts.events import ModelEvent, ModelEventType
from slipstream.contracts.rest import ModelVersion, Run
from slipstream.contracts.steps import RunSteps
from slipstream.contracts.times import HOUR_MS, now_ms
from slipstream.contracts.vocabulary import CANARY, CHALLENGER, CHAMPION
from slipstream.stores.artifacts import ArtifactNotFoundError, Artifacts


def lineage_of(run_id: str, manifest: Manifest, trained: TrainingResult, lake_uri: str) -> Lineage:
    """The origin of a run's bundle."""
    tags = {
        "lake_version": str(trained.lake_version),
        "catalog_version": str(trained.catalog_version),
        "code_commit": trained.code_commit or "unknown",
        "data_sha256": trained.data_sha256,
        "profile": manifest.profile,
        "peak_memory_mb": str(trained.peak_memory_mb),
        **{f"environment/{name}": value for name, value in trained.environment.items()},
    }
    seconds = {
        f"seconds/{stage.replace(' ', '_')}": value for stage, value in trained.seconds.items()
    }
    parameters = {**trained.parameters, "seed": manifest.seed, "profile": manifest.profile}
    return Lineage(
        run_id,
        {**trained.metrics, **seconds},
        parameters,
        tags,
        lake_uri,
        trained.data_sha256,
    )


log = get_logger(__name__)


@dataclass(frozen=True)
class ModelPublisher:
    """Moves the aliases, as nothing else does. Blocking: call it from a thread.

    Every change of a version is kept as a model event, in the transaction of the gate's decision
    where there is one. The event of an alias is kept after the alias has moved.

    Attributes:
        registry: Versions and aliases.
        repository: Record of decisions.
        artifacts: Store of the bundles.
        events: Model events, kept until they are announced.
        wake: Has new events announced at once.
        settings: Settings of the gate, and of the number of models kept.
        metrics: Metrics of the service.
        lake_uri: Address of the lake, for the lineage.
        faults: Returns the open alerts that hold promotions, in words.
    """

    registry: ModelRegistry
    repository: Repository
    artifacts: Artifacts
    events: ModelEventBook
    wake: Callable[[], None]
    settings: TrainingSection
    metrics: TrainingMetrics
    lake_uri: str
    faults: Callable[[], Sequence[str]] = tuple
    _moving: threading.Lock = field(default_factory=threading.Lock)

    def publish(self, run_id: str, directory: Path, trained: TrainingResult) -> gate.Decision:
        """Take the bundle of a run into the registry, and let the gate decide.

        Every decision is kept as an audit record. A failure after the decision is in force does not
        undo it.

        Args:
            run_id: The run, which names the version.

        Raises:
            DependencyUnavailableError: A server does not answer. The next call goes on from there.
            Exception: No decision could be made, or it could not be put in force. A bundle that is
                not in the registry is deleted then.
        """
        decided = self.repository.decisions(run_id)
        audit = decided[-1] if decided else self._decide(run_id, directory, trained)
        self.wake()
        decision = self._put_in_force(audit)
        log.info(
            "gate",
            version=run_id,
            outcome=decision.outcome,
            reason=decision.reason,
            questions=trained.measured.popularity.queries,
            visitors=trained.measured.visitors,
            scripted_visitors=trained.scripted.visitors,
            scripted_events=trained.scripted.events,
        )
        self.metrics.scripted_share.set(trained.scripted.share)
        self._tidy(run_id, decision, trained)
        return decision

    def resume(self, run_id: str) -> gate.Decision | None:
        """Put the decision about a run in force that a killed service had come to, and return it.

        None when it had not come to a decision; the rest of its bundle is deleted then.
        """
        decided = self.repository.decisions(run_id)
        if not decided:
            self._discard(run_id)
            return None
        return self._put_in_force(decided[-1])

    def note_failure(self, run: Run) -> None:
        """Record a run that made no version in MLflow, with its versions and steps.

        A failure to do so is logged.
        """
        try:
            tags = tags_of(read_steps(self.repository, run))
            self.registry.log_failure(run.run_id, {**tags, "error": run.error or run.state})
        except Exception as error:
            log.warning("a failed run is not recorded", run_id=run.run_id, reason=str(error))

    def _decide(self, run_id: str, directory: Path, trained: TrainingResult) -> Audit:
        """Register the bundle, and keep the gate's decision with its events."""
        try:
            manifest = self._kept(run_id, directory)
            lineage = lineage_of(run_id, manifest, trained, self.lake_uri)
            self.registry.register(manifest, self.artifacts.path(run_id), lineage)
            champion = self.registry.alias(CHAMPION)
        except DependencyUnavailableError:
            raise  # the next call needs the bundle
        except BaseException:
            self._discard(run_id)
            raise
        events = [event_of(ModelEventType.REGISTERED, run_id, CHALLENGER, metrics=trained.metrics)]

        decision = gate.decide(
            trained.measured, self._defender(champion, trained), self.settings.gate
        )
        decision = gate.held_back(decision, self.faults())
        defended = champion.version if champion else None
        if not decision.promoted:
            refusal = event_of(
                ModelEventType.REFUSED,
                run_id,
                None,
                previous=defended,
                reason=decision.reason,
                metrics=trained.metrics,
            )
            events.append(refusal)
        settings = self.settings.gate.model_dump()
        audit = Audit(
            run_id, run_id, defended, decision.outcome, decision.reason, decision.numbers, settings
        )
        self.repository.record(audit, events, request_id.get())
        self.metrics.decisions.labels(decision.outcome).inc()
        return audit

    def _put_in_force(self, audit: Audit) -> gate.Decision:
        """Promote where that was decided; nothing more where it is in force already."""
        version = audit.model_version
        if audit.outcome != "promoted":
            return gate.Decision("refused", audit.reason, dict(audit.numbers))
        if not self.events.has(version, ModelEventType.PROMOTED):
            self._finish_promotion(version, audit)
        return gate.Decision("promoted", audit.reason, dict(audit.numbers))

    def _kept(self, run_id: str, directory: Path) -> Manifest:
        """Manifest of the run's bundle, which is kept unless an earlier call has done so."""
        try:
            self.artifacts.path(run_id)
        except ArtifactNotFoundError:
            self.artifacts.put(run_id, directory)
        return self._manifest(run_id)

    def _manifest(self, run_id: str) -> Manifest:
        manifest = self.artifacts.path(run_id) / "manifest.json"
        return Manifest.model_validate_json(manifest.read_bytes())

    def promote(self, version: str, reason: str) -> ModelVersion:
        """Make a version the champion and announce it. Raises UnknownVersionError."""
        self._promote(version, reason, self.registry.get(version).metrics)
        return self.registry.get(version)

    def _promote(self, version: str, reason: str, metrics: dict[str, float]) -> None:
        with self._moving:
            before = self.registry.promote(version)
            self._keep(
                event_of(
                    ModelEventType.PROMOTED,
                    version,
                    CHAMPION,
                    previous=before,
                    reason=reason,
                    metrics=metrics,
                )
            )
        self.metrics.champion(version)

    def _finish_promotion(self, version: str, audit: Audit) -> None:
        """Promote, unless the alias has moved already and only the event is missing."""
        model, champion = self.registry.get(version), self.registry.alias(CHAMPION)
        if champion is None or champion.version != version:
            self._promote(version, audit.reason, model.metrics)
            return
        previous, reason = audit.champion_version, audit.reason
        self._keep(
            event_of(
                ModelEventType.PROMOTED,
                version,
                CHAMPION,
                previous=previous,
                reason=reason,
                metrics=model.metrics,
            )
        )

    def rollback(self, reason: str) -> ModelVersion:
        """Go back to the previous champion and announce it. Raises NoPreviousError."""
        with self._moving:
            version, bad = self.registry.rollback()
            self._keep(
                event_of(ModelEventType.ROLLED_BACK, version, CHAMPION, previous=bad, reason=reason)
            )
        self.metrics.champion(version)
        return self.registry.get(version)

    def set_canary(self, version: str, reason: str) -> ModelVersion:
        """Point the alias canary at a version and announce it. Raises UnknownVersionError."""
        with self._moving:
            before = self.registry.set_canary(version)
            self._keep(
                event_of(ModelEventType.ALIAS_SET, version, CANARY, previous=before, reason=reason)
            )
        return self.registry.get(version)

    def remove_canary(self, reason: str) -> ModelVersion:
        """Remove the alias canary and announce it. Raises NoCanaryError.

        Returns the version that it pointed at.
        """
        with self._moving:
            version = self.registry.remove_canary()
            self._keep(event_of(ModelEventType.ALIAS_REMOVED, version, CANARY, reason=reason))
        return self.registry.get(version)

    def _tidy(self, run_id: str, decision: gate.Decision, trained: TrainingResult) -> None:
        """Note the decision, write the report, delete old models.

        A failure of any of these is logged, and changes nothing about the decision.
        """
        numbers = {f"gate/{name}": value for name, value in decision.numbers.items()}
        decided = {"decision": decision.outcome, "decision_reason": decision.reason}
        try:
            steps = self._final_steps(run_id)
            tags = decided | (tags_of(steps) if steps else {})
            self.registry.note(run_id, tags, numbers)
            self.registry.log_trials(run_id, self._manifest(run_id).metrics.search or [])
        except Exception as error:
            log.error(
                "decision and trials could not be noted in the registry",
                version=run_id,
                exc_info=error,
            )
        try:
            page = report(
                self.repository.get(run_id),
                self._manifest(run_id),
                trained,
                self.repository.decisions(run_id)[-1],
            )
            self.registry.log_page(run_id, self.artifacts.put_report(run_id, page))
        except Exception as error:
            log.error("the run's report could not be written", run_id=run_id, exc_info=error)
        try:
            for version in self.registry.prune(self.settings.keep_models):
                log.info(
                    "model deleted, as newer ones are kept",
                    version=version,
                    keep=self.settings.keep_models,
                )
        except Exception as error:
            log.error("old models could not be deleted; the next run tries again", exc_info=error)

    def _final_steps(self, run_id: str) -> RunSteps | None:
        """The steps of a run as they are once it has succeeded; None without its record."""
        if self.repository.get(run_id) is None:
            return None
        record = self.repository.reported(run_id)
        ended = replace(record, run=record.run.model_copy(update={"state": "succeeded"}))
        return steps_of(ended, self.repository.decisions(run_id)[-1])

    def _discard(self, run_id: str) -> None:
        """Delete a bundle that is no version's. A bundle that may be registered stays."""
        try:
            if self.registry.knows(run_id):
                return
            self.artifacts.delete(run_id)
        except ArtifactNotFoundError:
            return
        except DependencyUnavailableError:
            raise  # it can't be told now whether the bundle is registered
        except Exception as error:
            log.error(
                "a bundle without a version could not be deleted", version=run_id, exc_info=error
            )

    def _defender(
        self, champion: ModelVersion | None, trained: TrainingResult
    ) -> gate.StandingChampion | None:
        """The champion that the gate defends; None without one, or where it can't be loaded.

        A person may have promoted another one during the run, and the run knows nothing about it.
        """
        if champion is None:
            return None
        judged = champion.version == trained.champion_version
        if judged and trained.champion_error:
            log.error(
                "the champion's bundle can't be loaded, so it does not stand",
                version=champion.version,
                why=trained.champion_error,
            )
            return None
        age_hours = (now_ms() - champion.created_at) / HOUR_MS
        return gate.StandingChampion(champion.version, age_hours, judged)

    def _keep(self, event: ModelEvent) -> None:
        self.events.add(event, request_id.get())
        self.wake()
