"""The queries of `docs/lake.md` and its notebook, in DuckDB and polars, on a lake of this test.

`make clients` installs the two.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.positions import Source
from slipstream.contracts.times import DAY_MS
from slipstream.stores.lake import CATALOG, INTERACTIONS, RECOMMENDATIONS, SCHEMAS, Lake
from tests.integration.client_environments import needs_environment, python_of

DOCS = Path(__file__).parents[2] / "docs"
START = 1_788_220_800_000  # 2026-09-01
# What the page's queries find.
CHECKS = """
assert by_day.fetchall() == [
    ("2026-08-31", "view", 1, 1), ("2026-09-01", "click", 1, 1), ("2026-09-01", "purchase", 2, 2),
    ("2026-09-02", "view", 1, 1),
], by_day
assert by_day.pl().equals(by_day_too.cast(dict(by_day.pl().schema))), by_day_too
assert sold.fetchall() == [("tea", "Green tea", 4), ("pot", "Pot", 1)], sold
assert sold_too.rows() == sold.fetchall(), sold_too
assert by_placement.fetchall() == [("cart", "trending", 1, 0), ("home", "model", 2, 1)]
assert (first.count_rows(), interactions.count_rows()) == (1, 5)
"""


@pytest.fixture
def lake(lake_settings: LakeSettings) -> Path:
    """The folder of a small lake."""
    events = [
        {"event_type": "view", "timestamp": START - 1},
        {"event_type": "purchase", "user_id": "ada", "properties": '{"quantity": 4}'},
        {"event_type": "purchase", "user_id": "bob", "item_id": "pot"},
        {"event_type": "click", "recommendation_id": "r1"},
        {"event_type": "view", "timestamp": START + DAY_MS},
    ]
    known = {"user_id": "ada", "item_id": "tea", "properties": "{}", "timestamp": START}
    made = [known | {"event_id": f"e{place}"} | event for place, event in enumerate(events)]
    history = Lake(lake_settings, "shop")
    append(history, INTERACTIONS, 0, made[:1])
    append(history, INTERACTIONS, 1, made[1:])
    states = [("tea", "Tea"), ("pot", "Pot"), ("tea", "Green tea")]
    entries = [
        {"entity": "item", "entity_id": item_id, "attributes": json.dumps({"title": title})}
        for item_id, title in states
    ]
    append(history, CATALOG, 0, entries)
    slates = [("r1", "home", "model"), ("r2", "home", "model"), ("r3", "cart", "trending")]
    fields = ("recommendation_id", "placement", "answered_by")
    shown = [dict(zip(fields, slate, strict=True)) | {"purpose": "shown"} for slate in slates]
    append(history, RECOMMENDATIONS, 0, shown)
    return Path(lake_settings.uri) / "shop"


def append(history: Lake, table: str, begin: int, rows: list[dict[str, Any]]) -> None:
    """Append rows with offsets from `begin`, received on one day."""
    known = {"timestamp": START, "received_at": START, "topic_id": "t", "partition": 0}
    numbered = [
        known | {"offset": begin + place, "received_date": "2026-09-01"} | row
        for place, row in enumerate(rows)
    ]
    last = {Source("topic", "t", 0): begin + len(rows) - 1}
    history.append(table, pa.Table.from_pylist(numbered, schema=SCHEMAS[table]), last)


@needs_environment("lake")
def test_the_pages_queries_find_what_is_there_in_both_engines(lake: Path) -> None:
    page = (DOCS / "lake.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert '".slipstream/lake/slipstream"' in blocks[0]
    code = "".join(blocks).replace('".slipstream/lake/slipstream"', repr(str(lake)))
    told = run("-c", code + CHECKS)
    assert "Interactions of visitors with items" in told
    assert "time of the event, ms since the epoch" in told


@needs_environment("lake")
def test_the_notebook_runs_from_its_first_cell_to_its_last(lake: Path) -> None:
    told = run(str(DOCS / "lake_notebook.py"), str(lake))
    assert "Green tea" in told
    assert told.count("purchases") == 2
    shutil.rmtree(lake / CATALOG)
    with pytest.raises(AssertionError, match="has no table 'catalog' yet"):
        run(str(DOCS / "lake_notebook.py"), str(lake))


def run(*arguments: str) -> str:
    """What the environment's Python prints, in a time zone other than the lake's."""
    ended = subprocess.run(
        [python_of("lake"), *arguments],
        env={**os.environ, "TZ": "Asia/Tokyo"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
