"""The catalogue of a moment, from the lake: what a reader of the log up to there has in memory."""

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.features.history.lake_snapshot import past_catalog
from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import Source, StreamCatalogRecord
from slipstream.contracts.topics import CATALOG as TOPIC
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.stores.lake import CATALOG, Lake
from tests.unit.stores.lake_rows import catalog_rows

TOPIC_ID = "log"
changes = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(0, 2),
        st.integers(1, 50),
        st.sampled_from(["there", "hidden", "deleted"]),
    ),
    min_size=1,
    max_size=15,
)


@given(changes, st.data())
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_it_is_what_a_reader_of_the_log_knew(
    tmp_path_factory: pytest.TempPathFactory,
    made: list[tuple[str, int, int, str]],
    data: st.DataObject,
) -> None:
    lake = Lake(LakeSettings(uri=str(tmp_path_factory.mktemp("lake"))), "ns")
    live, ends, offsets = Catalog(), [0, 0, 0], [0, 0, 0]
    until = data.draw(st.integers(0, len(made)))
    for number, (item_id, price, timestamp, state) in enumerate(made):
        partition = ord(item_id) - ord("a")
        offset = offsets[partition]
        offsets[partition] += 1
        attributes = {"price": price}
        flags = {"available": state != "hidden", "deleted": state == "deleted"}
        if number < until:
            ends[partition] = offset + 1
            record = CatalogRecord(
                entity="item",
                entity_id=item_id,
                attributes=attributes,
                timestamp=timestamp,
                **flags,
            )
            live.apply(StreamCatalogRecord(f"{TOPIC_ID}:{partition}", offset, record))
        lake.append(
            CATALOG,
            catalog_rows(
                ("item", item_id),
                attributes=orjson.dumps(attributes).decode(),
                topic_id=TOPIC_ID,
                partition=partition,
                offset=offset,
                timestamp=timestamp,
                **flags,
            ),
            {Source(TOPIC.name, TOPIC_ID, partition): offset},
        )
    again = Catalog()
    for line in past_catalog(lake, {TOPIC_ID: ends, "other": [9]}).lines():
        source, offset, record = orjson.loads(line)
        again.apply(StreamCatalogRecord(source, offset, CatalogRecord.model_validate(record)))

    def known(catalog: Catalog) -> list[StreamCatalogRecord]:
        return sorted(catalog.records(), key=lambda entry: entry.record.entity_id)

    assert known(again) == known(live)
    assert again.newest() == live.newest()


def test_users_and_a_lake_without_a_catalogue_have_no_items(lake_settings: LakeSettings) -> None:
    lake = Lake(lake_settings, "ns")
    assert list(past_catalog(lake, {TOPIC_ID: [9]}).lines()) == []
    lake.append(
        CATALOG,
        catalog_rows(("user", "ada"), topic_id=TOPIC_ID, partition=0, offset=0),
        {Source(TOPIC.name, TOPIC_ID, 0): 0},
    )
    assert list(past_catalog(lake, {TOPIC_ID: [9]}).lines()) == []
