"""Spark folds the same history to the same rows and states as the local engine.

It needs Java 17 and PySpark, which `make test-spark` brings.
"""

import importlib.util
import random
import shutil
from operator import attrgetter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from services.features.history.lake_snapshot import LakeSnapshot
from services.features.history.local_engine import LocalEngine
from services.features.history.sinks import HeaviestItems, Sinks
from services.features.history.spark_engine import SparkEngine, SparkMissingError
from services.features.history.training_files import TrainingFiles
from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.events import Interaction
from slipstream.contracts.positions import StreamInteraction
from slipstream.contracts.progress import ProgressStep
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.features.training_rows import rows_between
from slipstream.stores.lake import INTERACTIONS, Lake
from slipstream.stores.layout import TrendingState
from slipstream.stores.rebuild import RebuiltItem, RebuiltVisitor
from slipstream.stores.row_erasure import RowErasure
from tests.unit.features.placed_events import KINDS, START
from tests.unit.features_service.lake_history import links, write, write_catalog

MISSING = [
    name
    for name, there in (
        ("PySpark", importlib.util.find_spec("pyspark")),
        ("Java", shutil.which("java")),
    )
    if there is None
]
needs_spark = pytest.mark.skipif(
    bool(MISSING),
    reason=f"{' and '.join(MISSING)} not installed: make test-spark brings PySpark; "
    "Java 17: apt install openjdk-17-jre-headless",
)
WINDOW = (START + 6 * HOUR_MS, START + 40 * HOUR_MS)


def shop_history(count: int = 1_500, seed: int = 3) -> list[StreamInteraction]:
    """Forty visitors over two days, up to a day late, from two partitions."""
    chosen = random.Random(seed)
    drawn = sorted(
        (START + chosen.randrange(2 * DAY_MS), chosen.randrange(DAY_MS)) for _ in range(count)
    )
    records = []
    for offset, (at, late) in enumerate(sorted(drawn, key=sum)):
        user, kind = chosen.randrange(40), chosen.choice(KINDS)
        event = Interaction(
            event_id=f"e{offset}",
            event_type=kind,
            user_id=f"u{user}",
            item_id=None if kind == "search" else f"i{chosen.randrange(25)}",
            timestamp=at // 60_000 * 60_000,
            received_at=at + late,
            value=chosen.choice((None, 2.5)),
        )
        records.append(StreamInteraction(f"t:{user % 2}", offset, event))
    return records


class FoldedHistory:
    """States that an engine made of a snapshot."""

    def __init__(self) -> None:
        self.visitors: list[RebuiltVisitor] = []
        self.items: list[RebuiltItem] = []
        self.trending = HeaviestItems(20, TrendingState(half_life_ms=float(DAY_MS)))
        self.sinks = Sinks(self.visitors.extend, self.items.extend, self.trending)


def rows(folder: Path) -> list[dict[str, Any]]:
    read = [
        row
        for path in sorted(folder.glob("*.parquet"))
        for row in pq.ParquetFile(path).read().to_pylist()
    ]
    return sorted(read, key=lambda row: (row["topic_id"], row["partition"], row["offset"]))


_user_id, _item_id = attrgetter("user_id"), attrgetter("item_id")


def quiet(_step: ProgressStep) -> None:
    pass


@needs_spark
@pytest.mark.filterwarnings("ignore")
def test_spark_and_one_process_agree_to_the_last_bit(
    tmp_path: Path, lake_settings: LakeSettings
) -> None:
    lake = Lake(lake_settings, "shop")
    write(lake, shop_history(), random.Random(1))
    gone = RowErasure(frozenset({"u7"}), {}, 2**62)
    lake.erase(INTERACTIONS, [gone])  # A delete rewrites files, which Spark must read as well.
    shoes = ("item", "i1", {"category": ["shoes", "sale"], "price": "9.5"}, START)
    write_catalog(lake, [shoes, *links(("u1", "u2"), ("g", "h"))])
    snapshot = LakeSnapshot(lake, ("category", "brand"))

    local, local_files = FoldedHistory(), TrainingFiles(tmp_path / "local")
    (tmp_path / "work").mkdir()
    LocalEngine(snapshot, tmp_path / "work", quiet, bucket_rows=400).run(
        local.sinks, local_files, rows_between(*WINDOW)
    )
    local_files.complete({})
    spark, spark_files = FoldedHistory(), TrainingFiles(tmp_path / "spark")
    SparkEngine(snapshot, float(DAY_MS), "local[2]", quiet).run(spark.sinks, spark_files, *WINDOW)
    spark_files.complete({})

    assert local_files.rows == spark_files.rows > 500
    assert rows(tmp_path / "spark") == rows(tmp_path / "local")
    assert sorted(spark.visitors, key=_user_id) == sorted(local.visitors, key=_user_id)
    assert sorted(spark.items, key=_item_id) == sorted(local.items, key=_item_id)
    assert spark.trending.by_item() == local.trending.by_item()
    assert [len(heap) for heap in local.trending.heaps] == [20] * 5
    assert spark.trending.state == local.trending.state


@pytest.mark.skipif("PySpark" not in MISSING, reason="PySpark is installed")
def test_without_pyspark_it_says_what_to_install(lake_settings: LakeSettings) -> None:
    with pytest.raises(SparkMissingError, match=r"slipstream\[spark\]"):
        SparkEngine(LakeSnapshot(Lake(lake_settings, "shop"), ()), 1.0, "local[1]", quiet)
