"""`slipstream openapi`: write the services' OpenAPI documents."""

import importlib
import json
from pathlib import Path
from typing import Any

import click
from pydantic import SecretStr

from slipstream.chassis.settings import HttpSettings
from slipstream.contracts.services import SERVICES


@click.command(short_help="Write the services' OpenAPI documents.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def openapi(folder: Path) -> None:
    """Write each service's OpenAPI document into FOLDER, as JSON, for generators of clients.

    \b
    Example:  slipstream openapi build/openapi
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in SERVICES:
        document = json.dumps(app_of(name).openapi())
        (folder / f"{name}.json").write_text(document, encoding="utf-8")
    click.echo(f"Wrote {len(SERVICES)} documents into {folder}.")


def app_of(service: str, http: HttpSettings | None = None) -> Any:
    """A service's app, as it is before it opens: nothing is connected."""
    settings = getattr(
        importlib.import_module(f"services.{service}.settings"), f"{service.capitalize()}Settings"
    )
    own = {"ingestion": {"write_keys": SecretStr("shop:key")}} if service == "ingestion" else {}
    created = importlib.import_module(f"services.{service}.app").create_app
    return created(settings(http=http or HttpSettings(), **own))
