"""A shop whose answers are replayed, with the services that replays ask, all in memory."""

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson

from services.serving.replay.prices import Prices
from services.serving.replay.replays import Replays
from slipstream.broker.records import decode, encode
from slipstream.chassis.client import Peer
from slipstream.contracts.events import Slate
from slipstream.contracts.experiments import Experiment
from slipstream.contracts.placements import Placement, PlacementPolicy
from slipstream.contracts.positions import StreamCatalogRecord
from slipstream.contracts.rest import LoggedSlate, LoggedSlates
from slipstream.contracts.topics import RECOMMENDATIONS
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.model import Model
from slipstream.slates.slate_plan import MadeSlate
from slipstream.slates.slate_request import SlateRequest
from tests.unit.serving.fakes import ITEMS, SHELVES, FakeOnline, Setting, item_record


class PastShop:
    """A pipeline with placements and an experiment, which keeps what its changes were.

    Attributes:
        setting: The pipeline, and its model in service.
        variant_models: The models of variants by name.
        replays: Replays of its answers, with these services behind them.
        away: Names of services that don't answer.
        one_for_all: Whether features has the first slate under every id.
        prices: Prices by its log.
        clicked: Places that were clicked, by slate.
        revenue: Purchases that followed, by slate.
    """

    def __init__(self, online: FakeOnline, model: Model, folder: Path) -> None:
        self.setting = Setting(
            online,
            model,
            placement=self._placement,
            experiment=self._experiment,
            variant_model=lambda name: self.variant_models.get(name),
        )
        self.variant_models: dict[str, Model] = {}
        self.design: dict[str, Any] | None = None
        self.away: set[str] = set()
        self.one_for_all = False
        self._revisions: dict[str, list[Placement]] = {}
        self._log: list[StreamCatalogRecord] = []
        self._chance = random.Random(0)
        features, training, monitoring = (
            Peer(name, "http://it", retries=0, transport=httpx.MockTransport(self._answer(name)))
            for name in ("features", "training", "monitoring")
        )
        self.in_service: list[Model | None] = [model]
        self.replays = Replays(features, training, monitoring, lambda: self.in_service, folder)
        self.prices = Prices(
            self.replays, features, training, lambda: self.in_service, folder / "price"
        )
        self.clicked: dict[str, list[int]] = {}
        self.revenue: dict[str, list[tuple[int, float, str]]] = {}
        for number, item_id in enumerate(ITEMS):
            self.put_item(item_id, shelf=SHELVES[item_id], number=number)

    def put_item(self, item_id: str, **attributes: Any) -> None:
        """Put an item, whose flags may be among the attributes."""
        flags = {
            name: attributes.pop(name) for name in ("available", "deleted") & attributes.keys()
        }
        record = item_record(item_id, len(self._log), attributes=attributes, **flags)
        self._log.append(record)
        self.setting.catalog.apply(record)
        self.setting.catalog.compare_new_items(1.0)

    def put_placement(self, name: str, policy: dict[str, Any]) -> None:
        """Give a placement a policy, as its next revision."""
        revisions = self._revisions.setdefault(name, [])
        revisions.append(
            Placement(
                name=name,
                revision=len(revisions) + 1,
                policy=PlacementPolicy.model_validate(policy),
                changed_at=1,
            )
        )

    def promote(self, model: Model) -> None:
        """Take a model into service; the one before stays at hand."""
        self.in_service = [model, self.setting.model]
        self.setting.model = model

    async def ask(self, **wanted: Any) -> MadeSlate:
        """The answer to a request."""
        return await self.setting.line.answer(SlateRequest(**wanted))

    def _placement(self, name: str) -> Placement | None:
        revisions = self._revisions.get(name)
        return revisions[-1] if revisions else None

    def _experiment(self, placement: str, _now_ms: int) -> Experiment | None:
        if self.design is None or placement not in self.design["placements"]:
            return None
        return Experiment.model_validate(
            {"name": "calmer", "revision": 1, "design": self.design, "changed_at": 1}
        )

    def _answer(self, service: str) -> Any:
        def answer(request: httpx.Request) -> httpx.Response:
            if service in self.away:
                raise httpx.ConnectError("away")
            path = request.url.path
            if service == "features":
                if path == "/v1/slates":
                    return httpx.Response(200, content=b"".join(self._log_of(request.url.params)))
                slate = self._recorded(path.split("/")[3])
                if slate is None:
                    return httpx.Response(404, json={})
                if since := request.url.params.get("since"):
                    first = self._recorded(since)
                    assert first is not None
                    (begin,), (end,) = (
                        each.circumstances["catalog"]["c"] for each in (first, slate)
                    )
                    return httpx.Response(200, content=b"".join(_lines_of(self._log[begin:end])))
                if path.endswith("/catalog"):
                    return httpx.Response(200, content=b"".join(self._lines(slate.circumstances)))
                return httpx.Response(200, content=slate.model_dump_json())
            if service == "monitoring":
                cursor = int(request.url.params["cursor"])
                known = self._revisions.get(path.split("/")[3], [])
                found = [json.loads(it.model_dump_json()) for it in known if it.revision < cursor]
                return httpx.Response(200, json={"items": found[-1:], "next_cursor": None})
            return httpx.Response(404, json={})

        return answer

    def _recorded(self, recommendation_id: str) -> Slate | None:
        """A slate as it comes from the topic."""
        for slate in self.setting.slates:
            if self.one_for_all or slate.recommendation_id == recommendation_id:
                read = decode(RECOMMENDATIONS, encode(slate))
                assert isinstance(read, Slate)
                return read
        return None

    def _lines(self, circumstances: dict[str, Any]) -> Iterator[bytes]:
        """The catalogue of then, in no order."""
        past, (end,) = Catalog(), circumstances["catalog"]["c"]
        for entry in self._log[:end]:
            past.apply(entry)
        entries = list(past.records())
        self._chance.shuffle(entries)
        yield from _lines_of(entries)

    def _log_of(self, asked: httpx.QueryParams) -> Iterator[bytes]:
        """The log of sampled slates, as features gives it."""
        slates = [
            slate
            for slate in self.setting.slates
            if slate.placement == asked["placement"]
            and int(asked["since"]) <= slate.timestamp < int(asked["until"])
        ]
        sampled = [slate for slate in slates if slate.sampled]
        numbers = LoggedSlates(slates=len(slates), sampled=len(sampled), given=len(sampled))
        yield numbers.model_dump_json().encode() + b"\n"
        for slate in sampled:
            logged = LoggedSlate.model_validate(
                json.loads(slate.model_dump_json())
                | {
                    "clicked": self.clicked.get(slate.recommendation_id, []),
                    "revenue": self.revenue.get(slate.recommendation_id, []),
                }
            )
            yield logged.model_dump_json().encode() + b"\n"


def _lines_of(entries: Iterable[StreamCatalogRecord]) -> Iterator[bytes]:
    for source, offset, record in entries:
        yield orjson.dumps([source, offset, record.model_dump()]) + b"\n"
