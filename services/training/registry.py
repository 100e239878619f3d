"""The model registry and the record of experiments: MLflow's, so that its UI, its API and its
clients show them.

Model `recommender`, aliases `champion` and `challenger`. Our version is a name that is never used
twice, whereas MLflow counts 1, 2, 3 and starts again in an empty database: it is the tag `version`
of MLflow's version, whose source is the bundle.

MLflow takes seconds to import, and as long to create its tables: `open` does both, in a thread,
once.
"""

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy.engine import make_url

from slipstream.chassis.dependencies import DependencyUnavailableError
from slipstream.chassis.settings import DatabaseSettings
from slipstream.contracts.bundle import Manifest
from slipstream.contracts.rest import ModelVersion
from slipstream.stores.artifacts import ArtifactNotFoundError, Artifacts
from slipstream.stores.metadata import reach, with_connect_timeout

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL: Final = "recommender"
CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"

_VERSION_TAG = "version"
_PREVIOUS_TAG = "previous_champion"
_LONGEST_PARAMETER = 500
# MLflow's code for an operational error of its database.
_AWAY: Final = "TEMPORARILY_UNAVAILABLE"


class RegistryUnavailableError(DependencyUnavailableError):
    """The registry is still starting, or its database does not answer."""

    dependency = "registry"


class _Answering:
    """MLflow's client, with a RegistryUnavailableError from each call that its database does not
    answer.
    """

    def __init__(self, client: "MlflowClient") -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        @wraps(call)
        def asked(*arguments: Any, **named: Any) -> Any:
            from mlflow.exceptions import MlflowException

            try:
                return call(*arguments, **named)
            except MlflowException as error:
                if error.error_code != _AWAY:
                    raise
                raise RegistryUnavailableError(
                    "the model registry's database does not answer"
                ) from error

        return asked


class UnknownVersionError(LookupError):
    """No such version is registered, or its bundle is gone."""


class NoPreviousError(LookupError):
    """There is no earlier champion to go back to."""


@dataclass(frozen=True)
class Lineage:
    """What is recorded with a version, so that anyone can tell what it came from."""

    run_id: str
    metrics: Mapping[str, float]
    parameters: Mapping[str, Any]
    tags: Mapping[str, str]
    lake_uri: str
    data_sha256: str


def tracking_uri(configured: str, database: DatabaseSettings) -> str:
    """Where MLflow keeps its tables: as configured; else a file beside the SQLite metadata, or the
    same PostgreSQL database.
    """
    if configured:
        return configured
    url = make_url(database.url.get_secret_value())
    if url.get_backend_name() != "sqlite":
        return with_connect_timeout(url).render_as_string(hide_password=False)
    folder = Path(url.database or "metadata.db").absolute().parent
    return f"sqlite:///{folder / 'mlflow.db'}"


class ModelRegistry:
    """Versions, aliases and lineage. Safe to use from several threads, by one process at a time."""

    def __init__(self, uri: str, artifacts: Artifacts, *, patience_s: float = 3.0) -> None:
        self._uri, self._artifacts, self._patience_s = uri, artifacts, patience_s
        self._client: MlflowClient | None = None
        self._experiment = ""
        self._opened = threading.Event()
        self._moving = threading.Lock()

    def open(self) -> None:
        """Import MLflow, create or migrate its tables, and make sure of the experiment and the
        model. Takes seconds.

        Raises `DatabaseUnavailableError` where its database does not answer: MLflow itself would
        say so late, and at length.
        """
        reach(self._uri)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")
        for chatty in ("alembic", "mlflow"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        from mlflow import MlflowClient

        if self._uri.startswith("sqlite:///"):
            Path(self._uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        client = cast(
            "MlflowClient", _Answering(MlflowClient(tracking_uri=self._uri, registry_uri=self._uri))
        )
        found = client.get_experiment_by_name(MODEL)
        place = (self._artifacts.root / "experiments").as_uri()
        self._experiment = (
            found.experiment_id
            if found
            else client.create_experiment(MODEL, artifact_location=place)
        )
        if not client.search_registered_models(f"name = '{MODEL}'"):
            client.create_registered_model(
                MODEL, description="Slipstream's recommender; a version's source is its bundle"
            )
        self._client = client
        self._opened.set()

    def check(self) -> None:
        """Raises RegistryUnavailableError unless the registry answers."""
        if not self._opened.is_set():
            raise RegistryUnavailableError("the model registry is starting")
        self._ready().get_registered_model(MODEL)

    def wait_opened(self, timeout_s: float) -> bool:
        return self._opened.wait(timeout_s)

    def register(self, manifest: Manifest, directory: Path, lineage: Lineage) -> ModelVersion:
        """Record the run with its lineage and make its bundle a version, the challenger."""
        from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag

        client = self._ready()
        run_id = client.create_run(self._experiment, run_name=manifest.version).info.run_id
        try:
            client.log_batch(
                run_id,
                [
                    Metric(_metric_name(name), value, manifest.created_at, 0)
                    for name, value in lineage.metrics.items()
                ],
                [Param(name, value) for name, value in _flat(lineage.parameters).items()],
                [
                    RunTag(name, value)
                    for name, value in {**lineage.tags, _VERSION_TAG: manifest.version}.items()
                ],
            )
            dataset = Dataset("interactions", lineage.data_sha256[:36], "delta", lineage.lake_uri)
            client.log_inputs(run_id, [DatasetInput(dataset)])
            client.log_artifact(run_id, str(directory / "manifest.json"))
        except Exception:
            with suppress(Exception):  # what went wrong is worth more than that this does, too
                client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id)
        tags = {_VERSION_TAG: manifest.version, "training_run": lineage.run_id, **lineage.tags}
        made = client.create_model_version(
            MODEL, directory.as_uri(), run_id, tags=tags, await_creation_for=0
        )
        client.set_registered_model_alias(MODEL, CHALLENGER, made.version)
        return self._described(manifest.version, [CHALLENGER])

    def note(self, version: str, tags: Mapping[str, str], metrics: Mapping[str, float]) -> None:
        """Add to what is recorded with a version and the run that made it, such as the gate's
        decision.
        """
        client, found = self._ready(), self._find(version)
        for name, value in tags.items():
            client.set_model_version_tag(MODEL, str(found.version), name, value)
            client.set_tag(found.run_id, name, value)
        for name, number in metrics.items():
            client.log_metric(found.run_id, _metric_name(name), number)

    def log_page(self, version: str, page: Path) -> None:
        """Keep a copy of a page about the version with its run, where MLflow's UI shows it."""
        self._ready().log_artifact(self._find(version).run_id, str(page))

    def log_trials(self, version: str, trials: Sequence[Mapping[str, Any]]) -> None:
        """Record each trial of a search as a run of its own below the version's; MLflow's UI shows
        them together.
        """
        from mlflow.entities import Metric, Param

        client, parent = self._ready(), self._find(version).run_id
        for trial in trials:
            tags = {"mlflow.parentRunId": parent, "state": trial["state"]}
            run = client.create_run(
                self._experiment, run_name=f"trial {trial['number'] + 1}", tags=tags
            )
            figures = {
                name: trial[name]
                for name in ("quality", "epochs", "seconds")
                if trial[name] is not None
            }
            client.log_batch(
                run.info.run_id,
                [Metric(name, value, run.info.start_time, 0) for name, value in figures.items()],
                [Param(name, value) for name, value in _flat(trial["parameters"]).items()],
            )
            client.set_terminated(
                run.info.run_id, "FINISHED" if trial["state"] == "complete" else "KILLED"
            )

    def versions(
        self, limit: int, token: str | None = None
    ) -> tuple[list[ModelVersion], str | None]:
        """Versions, newest first, and the token of the next page. Raises ValueError for a token
        that is none of ours.
        """
        from mlflow.exceptions import MlflowException

        client = self._ready()
        try:
            page = client.search_model_versions(
                f"name = '{MODEL}'",
                max_results=limit,
                order_by=["version_number DESC"],
                page_token=token,
            )
        except (MlflowException, ValueError) as error:
            raise ValueError(f"not a cursor: {token}") from error
        aliases = self._aliases()
        return [
            self._described(one.tags[_VERSION_TAG], aliases.get(int(one.version), []))
            for one in page
        ], page.token or None

    def knows(self, version: str) -> bool:
        """Whether the version is registered."""
        try:
            self._find(version)
        except UnknownVersionError:
            return False
        return True

    def get(self, version: str) -> ModelVersion:
        """Raises UnknownVersionError."""
        found = self._find(version)
        return self._described(version, self._aliases().get(int(found.version), []))

    def alias(self, alias: str) -> ModelVersion | None:
        """The version that an alias points at, or None."""
        number = self._ready().get_registered_model(MODEL).aliases.get(alias)
        if number is None:
            return None
        return self._described(self._name_of(number), self._aliases().get(int(number), []))

    def promote(self, version: str) -> str | None:
        """Make the version the champion; returns the champion before it. Raises
        UnknownVersionError, also without its bundle.
        """
        client = self._ready()
        with self._moving:
            self._bundle(version)
            found = self._find(version)
            before = self.alias(CHAMPION)
            if before is not None and before.version != version:
                client.set_model_version_tag(
                    MODEL, str(found.version), _PREVIOUS_TAG, before.version
                )
            client.set_registered_model_alias(MODEL, CHAMPION, str(found.version))
            challenger = self.alias(CHALLENGER)
            if challenger is not None and challenger.version == version:
                client.delete_registered_model_alias(MODEL, CHALLENGER)
        return before.version if before else None

    def rollback(self) -> tuple[str, str]:
        """Make the champion before the present one champion again; returns the new champion and the
        one that was.

        Raises NoPreviousError, also when its bundle is gone.
        """
        client = self._ready()
        with self._moving:
            before = self.alias(CHAMPION)
            previous = self._previous(before.version) if before else None
            if before is None or previous is None:
                raise NoPreviousError("there is no earlier champion to go back to")
            try:
                self._bundle(previous)
                found = self._find(previous)
            except UnknownVersionError as error:
                raise NoPreviousError(
                    f"the champion before {before.version} was {previous}: {error}"
                ) from error
            client.set_registered_model_alias(MODEL, CHAMPION, str(found.version))
        return previous, before.version

    def prune(self, keep: int) -> list[str]:
        """Delete the oldest versions and their bundles beyond `keep`, never one with an alias nor
        what a rollback needs.

        The runs stay in the experiment, with their parameters and figures. Returns the versions
        deleted.
        """
        client = self._ready()
        numbers = client.search_model_versions(
            f"name = '{MODEL}'", order_by=["version_number DESC"]
        )
        champion = self.alias(CHAMPION)
        spared = {self._previous(champion.version)} if champion else set()
        doomed = [
            one
            for one in numbers[keep:]
            if int(one.version) not in self._aliases() and one.tags[_VERSION_TAG] not in spared
        ]
        for one in doomed:
            client.delete_model_version(MODEL, str(one.version))
            try:
                self._artifacts.delete(one.tags[_VERSION_TAG])
            except ArtifactNotFoundError:
                continue
        return [one.tags[_VERSION_TAG] for one in doomed]

    def _ready(self) -> "MlflowClient":
        if not self._opened.wait(self._patience_s) or self._client is None:
            raise RegistryUnavailableError("the model registry is starting")
        return self._client

    def _find(self, version: str) -> Any:
        # A quote would end the filter's string; no version has one.
        pages = (
            []
            if "'" in version
            else self._ready().search_model_versions(
                f"name = '{MODEL}' and tags.{_VERSION_TAG} = '{version}'"
            )
        )
        if not pages:
            raise UnknownVersionError(f"no model of version {version} is registered")
        return pages[0]

    def _name_of(self, number: str | int) -> str:
        return str(self._ready().get_model_version(MODEL, str(number)).tags[_VERSION_TAG])

    def _previous(self, version: str) -> str | None:
        previous: str | None = self._find(version).tags.get(_PREVIOUS_TAG)
        return previous

    def _aliases(self) -> dict[int, list[str]]:
        """MLflow's number → the aliases that point at it."""
        pointing: dict[int, list[str]] = {}
        for alias, number in sorted(self._ready().get_registered_model(MODEL).aliases.items()):
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
        """A version as REST tells it, from its manifest. One whose bundle is gone has no files."""
        try:
            manifest = self._bundle(version)
        except UnknownVersionError:
            return ModelVersion(version=version, aliases=aliases, run_id=version, created_at=0)
        return ModelVersion(
            version=version,
            aliases=aliases,
            run_id=version,
            created_at=manifest.created_at,
            metrics={
                name: value for name, value in manifest.metrics.items() if isinstance(value, float)
            },
            lake_version=manifest.lake_version,
            files=["manifest.json", *sorted(manifest.files)],
        )


def _metric_name(name: str) -> str:
    """MLflow's UI files what is before a slash together, and does not take `@`."""
    return name.replace("@", "_at_")


def _flat(parameters: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as one level of dotted names."""
    flat: dict[str, str] = {}
    for name, value in parameters.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value)[:_LONGEST_PARAMETER]
    return flat
