"""The places that a backup is taken of: databases, the folder of models, the lake."""

import os
from collections.abc import Mapping
from pathlib import Path

import click
from pydantic import SecretStr, ValidationError

from services.monitoring.migrations import MIGRATIONS as MONITORING
from services.training.migrations import MIGRATIONS as TRAINING
from services.training.mlflow_connection import tracking_uri
from services.training.settings import TrainingSettings
from slipstream.chassis.settings import DatabaseSettings, wrong_settings

# The migrations of each service with tables, by its name.
MIGRATIONS = {"training": TRAINING, "monitoring": MONITORING}
# Folders below that of the models. Checkpoints are left out: without them, a run starts over.
MODEL_FOLDERS = ("bundles", "reports", "experiments")
# The folder of the copied rows of our tables, and of MLflow's where they have their own database.
OURS, MLFLOW = "sql/metadata", "sql/mlflow"


def settings_of(data_dir: Path, running: Mapping[str, str]) -> TrainingSettings:
    """Read training's settings from the environment.

    Places that it does not name are those of the stack on the data folder. `running` describes
    that stack where it runs; its servers, and its namespace, count then.

    Raises:
        click.ClickException: A setting is wrong; the text names it.
    """
    try:
        settings = TrainingSettings()
    except ValidationError as error:
        raise click.ClickException(wrong_settings(error)) from error
    changed: dict[str, object] = {}
    if "SLIPSTREAM_DATABASE__URL" not in os.environ:
        url = running.get("database", f"sqlite:///{data_dir.absolute() / 'metadata.db'}")
        changed["database"] = settings.database.model_copy(update={"url": SecretStr(url)})
    if "SLIPSTREAM_LAKE__URI" not in os.environ:
        uri = running.get("lake", str(data_dir / "lake"))
        changed["lake"] = settings.lake.model_copy(update={"uri": uri})
    if "SLIPSTREAM_ARTIFACTS__DIRECTORY" not in os.environ:
        folder = {"directory": data_dir / "models"}
        changed["artifacts"] = settings.artifacts.model_copy(update=folder)
    if running:
        kafka = {"bootstrap_servers": running["kafka"]}
        redis = {"url": SecretStr(running["redis"])}
        changed["kafka"] = settings.kafka.model_copy(update=kafka)
        changed["redis"] = settings.redis.model_copy(update=redis)
        changed["namespace"] = running["namespace"]
    return settings.model_copy(update=changed)


def databases_of(settings: TrainingSettings) -> dict[str, DatabaseSettings]:
    """The databases by the folder of their copies: ours, and MLflow's where it is another one."""
    found = {OURS: settings.database}
    uri = mlflow_uri(settings)
    if uri.split("?")[0] != settings.database.url.get_secret_value().split("?")[0]:
        found[MLFLOW] = DatabaseSettings(url=SecretStr(uri))
    return found


def mlflow_uri(settings: TrainingSettings) -> str:
    """The URL of MLflow's database."""
    return tracking_uri(settings.training.tracking_uri.get_secret_value(), settings.database)
