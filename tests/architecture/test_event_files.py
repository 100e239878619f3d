"""The way of an event is short: few files from ingestion's route to Redis and the lake."""

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from services.features.history.archive import Archive
from services.features.settings import FeaturesSettings
from services.features.stream.materializer import Materializer
from services.ingestion.app import create_app
from services.ingestion.settings import IngestionSection, IngestionSettings
from slipstream.broker.consumer import Consumer
from slipstream.chassis.settings import KafkaSettings, LakeSettings, RedisSettings
from slipstream.stores.lake import INTERACTIONS
from tests.integration.running_materializer import QUICK, RunningMaterializer, running
from tests.unit.serving.recorded.asking import answer, connected
from tests.unit.serving.recorded.random_requests import Sent
from tests.waiting import until

ROOT = Path(__file__).parents[2]
OURS = tuple(f"{ROOT / name}/" for name in ("slipstream", "services"))
MOST_FILES = 50


class Way:
    """The files of ours with a function that was called, while it is `open`."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.open = False

    @contextmanager
    def noting(self, called: set[str]) -> Iterator[None]:
        """Add the files with functions that this thread calls in the block."""

        def note(frame: FrameType, event: str, _argument: Any) -> None:
            file = frame.f_code.co_filename
            if event == "call" and file.startswith(OURS):
                called.add(file.removeprefix(f"{ROOT}/"))

        sys.setprofile(note)
        try:
            yield
        finally:
            sys.setprofile(None)

    def through(
        self, method: Callable[..., Any], counts: Callable[..., bool]
    ) -> Callable[..., Any]:
        """The method, with its way noted whenever its result and arguments count."""

        def noted(*arguments: Any) -> Any:
            called = set[str]()
            with self.noting(called):
                result = method(*arguments)
            if self.open and counts(result, *arguments):
                self.files |= called
            return result

        return noted


@pytest.fixture
def way(monkeypatch: pytest.MonkeyPatch) -> Way:
    """The way of a batch that is polled and taken, and of a portion that is written."""
    way = Way()
    for owner, name, counts in (
        (Consumer, "poll", lambda batch, *_: bool(batch)),
        (Materializer, "_take", lambda _, _self, batch, *__: bool(batch)),
        (Archive, "_write", lambda *_: True),
    ):
        monkeypatch.setattr(owner, name, way.through(getattr(owner, name), counts))
    return way


async def test_an_event_crosses_few_files(
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    lake_settings: LakeSettings,
    namespace: str,
    way: Way,
) -> None:
    servers = {"kafka": broker, "redis": redis_settings, "namespace": namespace}
    section = IngestionSection(write_keys=SecretStr("shop:s3cret"))
    app = create_app(IngestionSettings(**servers, ingestion=section))
    features = FeaturesSettings(**servers, lake=lake_settings, features=QUICK)
    with running(features) as run:
        async with app.router.lifespan_context(app), connected(app) as (reader, writer):
            # Much is done for the first one only.
            await _accepted(lambda sent: answer(reader, writer, sent), 0)
            _wait_for(run, 1)
            way.open = True
            with way.noting(way.files):
                await _accepted(lambda sent: answer(reader, writer, sent), 1)
            _wait_for(run, 2)
    assert len(way.files) <= MOST_FILES, sorted(way.files)
    assert {
        "services/ingestion/api.py",
        "slipstream/stores/online.py",
        "slipstream/stores/lake.py",
    } <= way.files


async def _accepted(ask: Callable[[Sent], Awaitable[tuple[int, Any, str]]], number: int) -> None:
    event = {
        "userId": "ada",
        "messageId": f"m-{number}",
        "event": "Product Viewed",
        "properties": {"product_id": f"item-{number}"},
    }
    headers = {"host": "127.0.0.1", "authorization": "Bearer s3cret"}
    _, _, body = await ask(Sent("POST", "/v1/track", headers, orjson.dumps(event)))
    assert '"accepted":1' in body


def _wait_for(run: RunningMaterializer, rows: int) -> None:
    until(lambda: run.lake.count(INTERACTIONS) == rows)
