"""Records of experiments in MLflow: a run for each version, and one below it for each trial."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from services.training.mlflow_connection import MlflowConnection
from slipstream.contracts.bundle import Manifest, SearchTrial

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# The tag with our version, of MLflow's runs and of its model versions.
VERSION_TAG: Final = "version"
_LONGEST_PARAMETER: Final = 500


@dataclass(frozen=True)
class Lineage:
    """Origin of a version, as it is recorded with it.

    Attributes:
        run_id: Id of the training run.
        metrics: Figures of the run.
        parameters: Parameters, nested or not.
        tags: Versions of data and code, and other facts of the run.
        lake_uri: Address of the lake.
        data_sha256: Digest of the interactions.
    """

    run_id: str
    metrics: Mapping[str, float]
    parameters: Mapping[str, Any]
    tags: Mapping[str, str]
    lake_uri: str
    data_sha256: str


class Experiments:
    """Runs of the experiment; a run is named by MLflow's id."""

    def __init__(self, mlflow: MlflowConnection) -> None:
        self._mlflow = mlflow

    def record(self, manifest: Manifest, directory: Path, lineage: Lineage) -> str:
        """Record the run of a version, with its lineage and its manifest; returns MLflow's id."""
        client = self._mlflow.client()
        run_id: str = client.create_run(
            self._mlflow.experiment, run_name=manifest.version
        ).info.run_id
        try:
            _log(client, run_id, manifest, directory, lineage)
        except Exception:
            with suppress(Exception):  # the first error is worth more than a second one
                client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id)
        return run_id

    def note(self, run_id: str, tags: Mapping[str, str], metrics: Mapping[str, float]) -> None:
        """Add tags and metrics to a run."""
        client = self._mlflow.client()
        for name, value in tags.items():
            client.set_tag(run_id, name, value)
        for name, number in metrics.items():
            client.log_metric(run_id, _metric_name(name), number)

    def record_failure(self, name: str, tags: Mapping[str, str]) -> None:
        """Record a training run that made no version, as MLflow's run of this name."""
        client = self._mlflow.client()
        info = client.create_run(self._mlflow.experiment, run_name=name, tags=dict(tags)).info
        client.set_terminated(info.run_id, "FAILED")

    def keep_page(self, run_id: str, page: Path) -> None:
        """Keep a copy of a page with a run, where MLflow's UI shows it."""
        self._mlflow.client().log_artifact(run_id, str(page))

    def delete_files(self, run_id: str) -> None:
        """Delete the files of a run: the manifest, and pages with histories of visitors."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        if (run := self._run(run_id)) is not None:
            files: Any = get_artifact_repository(run.info.artifact_uri)
            files.delete_artifacts()

    def record_trials(self, parent: str, trials: Sequence[SearchTrial]) -> None:
        """Record each trial of a search as a run below its version's; MLflow's UI nests them."""
        from mlflow.entities import Metric, Param

        client = self._mlflow.client()
        for trial in trials:
            tags = {"mlflow.parentRunId": parent, "state": trial.state}
            info = client.create_run(
                self._mlflow.experiment, run_name=f"trial {trial.number + 1}", tags=tags
            ).info
            figures: dict[str, float] = {"epochs": trial.epochs, "seconds": trial.seconds}
            if trial.quality is not None:
                figures["quality"] = trial.quality
            client.log_batch(
                info.run_id,
                [Metric(name, value, info.start_time, 0) for name, value in figures.items()],
                [Param(name, value) for name, value in _flat(trial.parameters).items()],
            )
            ended = "FINISHED" if trial.state == "complete" else "KILLED"
            client.set_terminated(info.run_id, ended)

    def _run(self, run_id: str) -> "Run | None":
        """MLflow's run; None where it knows of none, as after its own garbage collection."""
        from mlflow.exceptions import MlflowException

        try:
            return self._mlflow.client().get_run(run_id)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None


def _log(
    client: "MlflowClient", run_id: str, manifest: Manifest, directory: Path, lineage: Lineage
) -> None:
    from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag

    tags = {**lineage.tags, VERSION_TAG: manifest.version}
    client.log_batch(
        run_id,
        [
            Metric(_metric_name(name), value, manifest.created_at, 0)
            for name, value in lineage.metrics.items()
        ],
        [Param(name, value) for name, value in _flat(lineage.parameters).items()],
        [RunTag(name, value) for name, value in tags.items()],
    )
    dataset = Dataset("interactions", lineage.data_sha256[:36], "delta", lineage.lake_uri)
    client.log_inputs(run_id, [DatasetInput(dataset)])
    client.log_artifact(run_id, str(directory / "manifest.json"))


def _metric_name(name: str) -> str:
    """The name without `@`, which MLflow refuses; its UI groups names by the part before `/`."""
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
