"""Model registry: versions and aliases in MLflow's, so that its UI, its API and its clients show
them.

Model `recommender`, aliases `champion`, `challenger` and `canary`. A version is a name that is
never used twice, whereas MLflow counts 1, 2, 3 and starts again in an empty database. The name is
the tag `version` of MLflow's version. The source of that version is the bundle.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from services.training.experiments import VERSION_TAG, Experiments, Lineage
from services.training.mlflow_connection import MODEL, Guard, MlflowConnection, unguarded
from slipstream.contracts.bundle import Manifest, SearchTrial
from slipstream.contracts.rest import ModelVersion
from slipstream.contracts.vocabulary import CANARY, CHALLENGER, CHAMPION
from slipstream.stores.artifacts import ArtifactNotFoundError, Artifacts

_PREVIOUS_TAG = "previous_champion"
# Versions in one answer of MLflow, which is more than anybody keeps.
_MOST = 10_000


class UnknownVersionError(LookupError):
    """No such version is registered, or its bundle is gone."""


class NoPreviousError(LookupError):
    """There is no earlier champion to go back to."""


class NoCanaryError(LookupError):
    """No version is the canary."""


class ModelRegistry:
    """Versions, aliases and lineage. Safe to use from several threads, by one process at a time.

    Every method but `open` and `wait_opened` raises RegistryUnavailableError when the registry is
    not open after a while, or its database does not answer.

    Args:
        uri: SQLAlchemy URL of MLflow's database.
        patience_s: Seconds that a call waits for the registry to open.
        guard: Gets each engine of MLflow, to refuse what a process without the lease would write.
    """

    def __init__(
        self,
        uri: str,
        artifacts: Artifacts,
        *,
        patience_s: float = 3.0,
        guard: Guard = unguarded,
    ) -> None:
        self.mlflow = MlflowConnection(uri, artifacts.root / "experiments", patience_s, guard)
        self.open, self.check = self.mlflow.open, self.mlflow.check
        self.wait_opened = self.mlflow.wait_opened
        self._experiments = Experiments(self.mlflow)
        self._artifacts = artifacts
        self._moving = threading.RLock()

    def register(self, manifest: Manifest, directory: Path, lineage: Lineage) -> ModelVersion:
        """Record the run with its lineage, and make its bundle a version, the challenger.

        A version that is registered already is made the challenger, and nothing more.
        """
        client, version = self.mlflow.client(), manifest.version
        with self._moving:
            if not self.knows(version):
                run_id = self._experiments.record(manifest, directory, lineage)
                tags = {VERSION_TAG: version, "training_run": lineage.run_id, **lineage.tags}
                client.create_model_version(
                    MODEL, directory.as_uri(), run_id, tags=tags, await_creation_for=0
                )
            client.set_registered_model_alias(MODEL, CHALLENGER, str(self._entry(version).version))
        return self._described(version, [CHALLENGER])

    def note(self, version: str, tags: Mapping[str, str], metrics: Mapping[str, float]) -> None:
        """Add tags to a version, and tags and metrics to its run, such as the gate's decision."""
        entry = self._entry(version)
        for name, value in tags.items():
            self.mlflow.client().set_model_version_tag(MODEL, str(entry.version), name, value)
        self._experiments.note(entry.run_id, tags, metrics)

    def log_failure(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Record a training run that made no version, with its tags."""
        self._experiments.record_failure(run_id, tags)

    def log_page(self, version: str, page: Path) -> None:
        """Keep a copy of a page about the version with its run."""
        self._experiments.keep_page(self._entry(version).run_id, page)

    def log_trials(self, version: str, trials: Sequence[SearchTrial]) -> None:
        """Record the trials of the version's search below its run."""
        self._experiments.record_trials(self._entry(version).run_id, trials)

    def versions(
        self, limit: int, token: str | None = None
    ) -> tuple[list[ModelVersion], str | None]:
        """Versions, newest first, and the token of the next page; None on the last.

        Raises ValueError for a token that this method has not given.
        """
        from mlflow.exceptions import MlflowException

        try:
            page = self.mlflow.client().search_model_versions(
                f"name = '{MODEL}'",
                max_results=limit,
                order_by=["version_number DESC"],
                page_token=token,
            )
        except (MlflowException, ValueError) as error:
            raise ValueError(f"not a cursor: {token}") from error
        aliases = self._aliases()
        models = [
            self._described(entry.tags[VERSION_TAG], aliases.get(int(entry.version), []))
            for entry in _present(page)
        ]
        return models, page.token or None

    def kept(self) -> list[ModelVersion]:
        """All versions, newest first, and then the bundles that no version has."""
        found, _ = self.versions(_MOST)
        known = {model.version for model in found}
        rest = [version for version in self._artifacts.versions() if version not in known]
        return [*found, *(self._described(version, []) for version in rest)]

    def knows(self, version: str) -> bool:
        """Whether the version is registered."""
        try:
            self._entry(version)
        except UnknownVersionError:
            return False
        return True

    def get(self, version: str) -> ModelVersion:
        """The version. Raises UnknownVersionError."""
        number = int(self._entry(version).version)
        return self._described(version, self._aliases().get(number, []))

    def alias(self, alias: str) -> ModelVersion | None:
        """The version that an alias points at, or None."""
        number = self.mlflow.client().get_registered_model(MODEL).aliases.get(alias)
        if number is None:
            return None
        wanted = f"name = '{MODEL}' and version_number = {number}"
        for entry in _present(self.mlflow.client().search_model_versions(wanted)):
            aliases = self._aliases().get(int(number), [])
            return self._described(entry.tags[VERSION_TAG], aliases)
        return None

    def promote(self, version: str) -> str | None:
        """Make the version the champion, and return the champion before it.

        Raises UnknownVersionError, also where the version's bundle is gone.
        """
        client = self.mlflow.client()
        with self._moving:
            self._bundle(version)
            number = str(self._entry(version).version)
            before = self.alias(CHAMPION)
            if before is not None and before.version != version:
                client.set_model_version_tag(MODEL, number, _PREVIOUS_TAG, before.version)
            client.set_registered_model_alias(MODEL, CHAMPION, number)
            challenger = self.alias(CHALLENGER)
            if challenger is not None and challenger.version == version:
                client.delete_registered_model_alias(MODEL, CHALLENGER)
        return before.version if before else None

    def rollback(self) -> tuple[str, str]:
        """Make the champion before the present one champion again.

        Returns the new champion and the one that it replaces. Raises NoPreviousError, also when the
        earlier champion's bundle is gone.
        """
        with self._moving:
            before = self.alias(CHAMPION)
            previous = self._previous(before.version) if before else None
            if before is None or previous is None:
                raise NoPreviousError("there is no earlier champion to go back to")
            try:
                self._bundle(previous)
                number = str(self._entry(previous).version)
            except UnknownVersionError as error:
                raise NoPreviousError(
                    f"the champion before {before.version} was {previous}: {error}"
                ) from error
            self.mlflow.client().set_registered_model_alias(MODEL, CHAMPION, number)
        return previous, before.version

    def set_canary(self, version: str) -> str | None:
        """Point the alias canary at the version, and return the version before it.

        Raises UnknownVersionError, also where the version's bundle is gone.
        """
        with self._moving:
            self._bundle(version)
            number = str(self._entry(version).version)
            before = self.alias(CANARY)
            self.mlflow.client().set_registered_model_alias(MODEL, CANARY, number)
        return before.version if before else None

    def remove_canary(self) -> str:
        """Remove the alias canary, and return its version. Raises NoCanaryError."""
        with self._moving:
            before = self.alias(CANARY)
            if before is None:
                raise NoCanaryError("no model is canary")
            self.mlflow.client().delete_registered_model_alias(MODEL, CANARY)
        return before.version

    def prune(self, keep: int) -> list[str]:
        """Delete the oldest versions beyond `keep`, as `delete` does, and return these versions.

        A version with an alias stays, and the one that a rollback needs.
        """
        client = self.mlflow.client()
        entries = client.search_model_versions(
            f"name = '{MODEL}'", order_by=["version_number DESC"]
        )
        deleted = []
        for entry in _present(entries[keep:]):
            version = entry.tags[VERSION_TAG]
            with self._moving:  # or a version that is being promoted could be deleted
                if self._needed(int(entry.version), version):
                    continue
                self.delete(version)
            deleted.append(version)
        return deleted

    def delete(self, version: str) -> None:
        """Delete a version with its aliases, its bundle, and the files and report of its run.

        The run stays in the experiment, with its parameters and figures. What a kill leaves, a
        later call finds and deletes.
        """
        with self._moving:
            with suppress(ArtifactNotFoundError):
                self._artifacts.delete(version)
            with suppress(UnknownVersionError):
                entry = self._entry(version)
                self._experiments.delete_files(entry.run_id)
                self.mlflow.client().delete_model_version(MODEL, str(entry.version))

    def _needed(self, number: int, version: str) -> bool:
        """Whether an alias points at the version, or a rollback would go to it."""
        champion = self.alias(CHAMPION)
        previous = self._previous(champion.version) if champion else None
        return number in self._aliases() or version == previous

    def _entry(self, version: str) -> Any:
        """MLflow's entry of a version. Raises UnknownVersionError."""
        wanted = f"name = '{MODEL}' and tags.{VERSION_TAG} = '{version}'"
        # A quote would end the filter's string; no version has one.
        entries = [] if "'" in version else self.mlflow.client().search_model_versions(wanted)
        if not entries:
            raise UnknownVersionError(f"no model of version {version} is registered")
        return entries[0]

    def _previous(self, version: str) -> str | None:
        previous: str | None = self._entry(version).tags.get(_PREVIOUS_TAG)
        return previous

    def _aliases(self) -> dict[int, list[str]]:
        """The aliases that point at each of MLflow's numbers."""
        pointing: dict[int, list[str]] = {}
        aliases = self.mlflow.client().get_registered_model(MODEL).aliases
        for alias, number in sorted(aliases.items()):
            pointing.setdefault(int(number), []).append(alias)
        return pointing

    def _bundle(self, version: str) -> Manifest:
        try:
            return Manifest.model_validate_json(
                (self._artifacts.path(version) / "manifest.json").read_bytes()
            )
        except (ArtifactNotFoundError, OSError) as error:
            raise UnknownVersionError(f"the bundle of version {version} is gone") from error

    def _described(self, version: str, aliases: list[str]) -> ModelVersion:
        """A version as REST has it, from its manifest; without files where its bundle is gone."""
        try:
            manifest = self._bundle(version)
        except UnknownVersionError:
            return ModelVersion(version=version, aliases=aliases, run_id=version, created_at=0)
        return ModelVersion(
            version=version,
            aliases=aliases,
            run_id=version,
            created_at=manifest.created_at,
            metrics=manifest.metrics.figures,
            lake_version=manifest.lake_version,
            learned_from=manifest.learned_from,
            files=["manifest.json", *sorted(manifest.files)],
        )


def _present(entries: Iterable[Any]) -> list[Any]:
    """MLflow's entries without those deleted while MLflow read them, which have lost their tags."""
    return [entry for entry in entries if VERSION_TAG in entry.tags]
