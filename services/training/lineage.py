"""Lineage of a run's bundle, from its manifest and the run's result."""

from services.training.experiments import Lineage
from services.training.run.job import TrainingResult
from slipstream.contracts.bundle import Manifest


def lineage_of(run_id: str, manifest: Manifest, trained: TrainingResult, lake_uri: str) -> Lineage:
    """The origin of a run's bundle.

    Args:
        run_id: Id of the training run.
        manifest: Manifest of the bundle.
        trained: Result of the run.
        lake_uri: Address of the lake.
    """
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
