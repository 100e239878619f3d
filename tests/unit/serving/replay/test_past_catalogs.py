"""The catalogue of a slate: it is kept for slates of the same records, at their times."""

from pathlib import Path

import httpx
import orjson

from services.serving.replay.past import PastCatalogs
from slipstream.chassis.client import Peer
from slipstream.contracts.circumstances import FORM, Circumstances

EXPIRES = 5_000


def at(now: int, end: int = 1) -> Circumstances:
    return Circumstances(form=FORM, now=now, catalog={"log": [end]})


def past_catalogs(folder: Path, **attributes: int) -> tuple[PastCatalogs, list[str]]:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        record = {"entity": "item", "entity_id": "a", "timestamp": 1, "attributes": attributes}
        return httpx.Response(200, content=orjson.dumps(["log:0", 0, record]) + b"\n")

    peer = Peer("features", "http://features", transport=httpx.MockTransport(answer))
    return PastCatalogs(peer, folder), asked


def test_slates_of_the_same_records_share_a_catalogue(tmp_path: Path) -> None:
    catalogs, asked = past_catalogs(tmp_path)
    first = catalogs.of("r1", at(10))
    assert catalogs.of("r2", at(5)) is first
    assert catalogs.of("r3", at(5, end=2)) is not first
    assert asked == ["/v1/slates/r1/catalog", "/v1/slates/r3/catalog"]
    assert not list(tmp_path.iterdir()), "no file is left"


def test_an_item_expires_by_the_time_of_the_slate_forwards_and_backwards(tmp_path: Path) -> None:
    catalogs, asked = past_catalogs(tmp_path, expires_at=EXPIRES)
    assert catalogs.of("r1", at(EXPIRES - 1)).shown("a")
    assert not catalogs.of("r2", at(EXPIRES)).shown("a")
    assert len(asked) == 1
    assert catalogs.of("r3", at(EXPIRES - 1)).shown("a")
    assert len(asked) == 2
