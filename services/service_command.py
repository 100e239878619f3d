"""`slipstream <service>`: one service, with the settings in its environment."""

import importlib
from collections.abc import Mapping
from typing import Any

import click

SERVICES = {
    "ingestion": "Takes events and catalogue records over REST.",
    "features": "Folds events into the online store and the lake.",
    "training": "Trains models, and promotes the better ones.",
    "serving": "Answers recommendations.",
    "monitoring": "Reports quality and drift, and raises alerts.",
}
_KAFKA = "SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS=kafka:9092"
_REDIS = "SLIPSTREAM_REDIS__URL=redis://redis:6379/0"
_DATABASE = "SLIPSTREAM_DATABASE__URL=postgresql+psycopg://user:password@db/slipstream"
_TRAINING = "SLIPSTREAM_PEERS__TRAINING_URL=http://training:8003"
#: What each service has to be told where not all runs on one machine.
NEEDED_SETTINGS = {
    "ingestion": (_KAFKA, _REDIS, "SLIPSTREAM_INGESTION__WRITE_KEYS=shop:s3cret"),
    "features": (_KAFKA, _REDIS, "SLIPSTREAM_LAKE__URI=s3://history/lake"),
    "training": (_KAFKA, _DATABASE, "SLIPSTREAM_LAKE__URI=s3://history/lake"),
    "serving": (_KAFKA, _REDIS, _TRAINING),
    "monitoring": (
        _KAFKA,
        _DATABASE,
        _TRAINING,
        "SLIPSTREAM_PEERS__FEATURES_URL=http://features:8002",
        "SLIPSTREAM_PEERS__SERVING_URL=http://serving:8004",
        "SLIPSTREAM_PEERS__INGESTION_URL=http://ingestion:8001",
    ),
}


def service_command(name: str) -> click.Command:
    """The command of one of `SERVICES`."""
    purpose = SERVICES[name]

    def run() -> None:
        app_module = importlib.import_module(f"services.{name}.app")
        settings_module = importlib.import_module(f"services.{name}.settings")
        from pydantic import ValidationError

        from slipstream.chassis.app import serve
        from slipstream.chassis.logging import configure_logging

        try:
            settings = getattr(settings_module, f"{name.capitalize()}Settings")()
        except ValidationError as error:
            raise click.ClickException(f"settings: {'; '.join(map(_wrong_setting, error.errors()))}") from error
        configure_logging(settings.log, name)
        serve(app_module.create_app(settings), settings, name)

    example = " \\\n          ".join((*NEEDED_SETTINGS[name], f"slipstream {name}"))
    return click.Command(
        name,
        callback=run,
        help=f"""{purpose}

        One service, against the servers that its settings name (docs/configuration.md). Logs are JSON lines on standard output.

        \b
        Example:
          {example}
        Port:
          SLIPSTREAM_HTTP__PORT
        """,
        short_help=purpose,
    )


def _wrong_setting(error: Mapping[str, Any]) -> str:
    variable = f"SLIPSTREAM_{'__'.join(map(str, error['loc'])).upper()}"
    what = str(error["msg"]).removeprefix("Value error, ")
    return what if what.startswith(variable) else f"{variable}: {what}"
