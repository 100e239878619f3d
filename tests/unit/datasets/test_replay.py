"""Replay against a server of its own that answers as ingestion does."""

import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slipstream.contracts.rest import Problem
from slipstream.datasets import upload
from slipstream.datasets.replay import replay
from slipstream.datasets.upload import ReplayError
from tests.unit.datasets.ingestion_double import Collector, collector, short_pauses

pytestmark = pytest.mark.usefixtures("short_pauses")
__all__ = ["collector", "short_pauses"]


def write(path: Path, **columns: list[Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def shuffled(tmp_path: Path) -> Path:
    """1,000 events of 37 visitors, not in order of time."""
    count = 1_000
    return write(
        tmp_path / "events.parquet",
        user_id=[f"u{n % 37}" for n in range(count)],
        item_id=[f"i{n % 11}" for n in range(count)],
        event_type=["view"] * count,
        timestamp=[1_600_000_000_000 + n * 7919 % count * 10 for n in range(count)],
        position=[n % 5 for n in range(count)],
        value=[None if n % 2 else 2.5 for n in range(count)],
    )


def test_every_event_arrives_once_and_each_visitor_s_in_order(
    collector: Collector, shuffled: Path
) -> None:
    seen: list[tuple[int, int]] = []
    report = replay(
        shuffled,
        url=collector.url,
        write_key="k",
        batch_size=20,
        concurrency=3,
        progress=lambda step: seen.append((step.done, step.total)),
    )
    events = collector.events()
    assert (report.events, report.accepted, report.rejected) == (1_000, 1_000, 0)
    assert len({event["messageId"] for event in events}) == 1_000
    by_visitor: dict[str, list[int]] = defaultdict(list)
    for event in events:
        by_visitor[event["userId"]].append(event["timestamp"])
    assert all(times == sorted(times) for times in by_visitor.values())
    assert all(len(body["batch"]) <= 20 for _, body, _ in collector.bodies)
    assert seen[-1] == (1_000, 1_000)
    assert report.events_per_s > 0


def test_event_is_a_track_call_with_its_columns_as_properties(
    collector: Collector, tmp_path: Path
) -> None:
    path = write(
        tmp_path / "one.parquet",
        user_id=["u"],
        item_id=["i"],
        event_type=["rate"],
        timestamp=[1_600_000_000_123],
        value=[4.0],
        position=[2],
        land=[None],
    )
    replay(path, url=collector.url, write_key="k")
    (event,) = collector.events()
    assert event.pop("messageId")
    assert event == {
        "type": "track",
        "event": "rate",
        "userId": "u",
        "timestamp": 1_600_000_000_123,
        "properties": {"item_id": "i", "value": 4.0, "position": 2},
    }


def test_repeated_replay_sends_the_same_message_ids(collector: Collector, shuffled: Path) -> None:
    replay(shuffled, url=collector.url, write_key="k")
    first = sorted(event["messageId"] for event in collector.events())
    collector.bodies.clear()
    collector.known.clear()
    replay(shuffled, url=collector.url, write_key="k", batch_size=7)
    assert sorted(event["messageId"] for event in collector.events()) == first


def test_equal_rows_are_different_events(collector: Collector, tmp_path: Path) -> None:
    path = write(
        tmp_path / "twice.parquet",
        user_id=["u", "u"],
        item_id=["i", "i"],
        event_type=["view", "view"],
        timestamp=[1_600_000_000_000] * 2,
    )
    replay(path, url=collector.url, write_key="k")
    assert len({event["messageId"] for event in collector.events()}) == 2


def test_items_go_first_with_their_attributes(
    collector: Collector, shuffled: Path, tmp_path: Path
) -> None:
    items = write(
        tmp_path / "items.parquet",
        item_id=["i0", "i1"],
        title=["A", "B"],
        categories=[["x"], ["y", "z"]],
    )
    report = replay(shuffled, url=collector.url, write_key="k", items=items)
    path, body, _ = collector.bodies[0]
    assert path == "/v1/items"
    assert body["items"][1] == {"item_id": "i1", "title": "B", "categories": ["y", "z"]}
    assert (report.items, report.items_rejected) == (2, 0)


def test_rejections_are_counted_by_code(collector: Collector, tmp_path: Path) -> None:
    path = write(
        tmp_path / "bad.parquet",
        user_id=["u", "nobody"],
        item_id=["i", "i"],
        event_type=["view", "view"],
        timestamp=[1_600_000_000_000] * 2,
    )
    report = replay(path, url=collector.url, write_key="k")
    assert (report.accepted, report.rejected, report.rejected_by_code) == (1, 1, {"bad": 1})


def test_refused_batches_are_sent_again(collector: Collector, shuffled: Path) -> None:
    collector.refusals = [(503, "0"), (429, "0"), (503, "")] * 2
    report = replay(shuffled, url=collector.url, write_key="k", batch_size=100)
    assert report.accepted == 1_000
    assert len({event["messageId"] for event in collector.events()}) == 1_000


def test_refused_write_key_ends_the_replay_with_the_reason(
    collector: Collector, shuffled: Path
) -> None:
    collector.refusals = [(401, "")] * 100
    with pytest.raises(ReplayError, match="401"):
        replay(shuffled, url=collector.url, write_key="k")
    assert not collector.bodies


async def test_another_service_ends_the_upload_with_its_words() -> None:
    said = "this is serving; ask ingestion (8001) for /v1/import"
    wrong = Problem(title="Not Found", status=404, detail=said, code="not_found")
    answer = httpx.Response(404, content=wrong.model_dump_json())
    transport = httpx.MockTransport(lambda request: answer)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        with pytest.raises(ReplayError) as caught:
            await upload.post(client, "/v1/import", b"{}")
    assert str(caught.value).endswith(f"answered 404 to /v1/import: {said}")


def test_absent_server_ends_the_replay_with_the_address(shuffled: Path) -> None:
    with pytest.raises(ReplayError, match=r"127\.0\.0\.1:1"):
        replay(shuffled, url="http://127.0.0.1:1", write_key="k")


def test_bodies_stay_below_the_limit(
    collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "MAX_BODY_BYTES", 1_000)
    path = write(
        tmp_path / "long.parquet",
        user_id=["u"] * 20,
        item_id=["i"] * 20,
        event_type=["view"] * 20,
        timestamp=list(range(1_600_000_000_000, 1_600_000_000_020)),
        text=["x" * 300] * 20,
    )
    assert replay(path, url=collector.url, write_key="k").accepted == 20
    assert len(collector.bodies) > 5


def test_speed_keeps_the_pace_of_the_events(collector: Collector, tmp_path: Path) -> None:
    """Three events a second apart, ten times faster: the last goes after 0.2 s, less a tick."""
    path = write(
        tmp_path / "slow.parquet",
        user_id=["u", "v", "w"],
        item_id=["i"] * 3,
        event_type=["view"] * 3,
        timestamp=[1_600_000_000_000, 1_600_000_001_000, 1_600_000_002_000],
    )
    started = time.monotonic()
    replay(path, url=collector.url, write_key="k", speed=10)
    assert time.monotonic() - started >= 0.15
    assert len(collector.events()) == 3


def test_speed_must_be_positive(shuffled: Path) -> None:
    with pytest.raises(ValueError, match="speed"):
        replay(shuffled, url="http://127.0.0.1:1", write_key="k", speed=0)
