"""The app of serving on a pipeline of fakes: all its layers and routes, and no server."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from fastapi import FastAPI

from services.serving.app import create_app
from services.serving.http.page_requests import PageReads
from services.serving.http.responses import Parts
from services.serving.settings import ServingSection, ServingSettings
from services.serving.state.item_search import ItemSearch
from services.serving.state.model_holder import ModelHolder
from slipstream.chassis.settings import HttpSettings
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.model import Model
from tests.unit.serving.fakes import Setting

# Of a host that a guarded service takes requests for.
URL = "http://127.0.0.1:8004"


@dataclass
class Models:
    """What routes read of a model holder."""

    setting: Setting
    problem: str | None = None
    previous: None = None

    @property
    def current(self) -> Model | None:
        return self.setting.model


def make_app(setting: Setting, serving: ServingSection = ServingSection(), **http: Any) -> FastAPI:
    """The app. Its lifespan, which would connect, is not entered; `http` are settings."""
    app = create_app(ServingSettings(http=HttpSettings(**http), serving=serving))
    models = cast(ModelHolder, Models(setting))
    app.state.parts = Parts(
        setting.line,
        models,
        setting.catalog,
        placements_without=setting.placements_without,
        attributes=lambda: setting.catalog.columns.names or (),
        pages=PageReads(app.state.keys, serving),
        search=made_search(setting.catalog),
    )
    return app


def made_search(catalog: Catalog) -> ItemSearch:
    """The search of a catalogue, with its index."""
    search = ItemSearch(catalog)
    search.catch_up()
    return search


def broken_parts() -> Parts:
    """Parts that fail whoever uses them."""
    return cast(Parts, SimpleNamespace())
