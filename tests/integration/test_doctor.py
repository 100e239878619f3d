"""The doctor compares the catalogue in Redis with the items of the events."""

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import StreamCatalogRecord
from slipstream.evaluation.data_checks import EventFigures
from slipstream.stores.online import OnlineStore
from slipstream_cli.doctor.catalogue import read_catalogue
from slipstream_cli.doctor.findings import Limits


def test_items_of_events_are_looked_up_where_the_sample_does_not_have_them(
    redis_settings: RedisSettings, namespace: str
) -> None:
    store = OnlineStore(redis_settings, namespace)
    store.put_catalog(
        [
            StreamCatalogRecord(
                "catalog.v1:t:0",
                number,
                CatalogRecord(
                    entity="item",
                    entity_id=f"i{number}",
                    attributes={"category": "tea"},
                    deleted=number == 9,
                    timestamp=1,
                ),
            )
            for number in range(10)
        ]
    )
    store.close()
    events = EventFigures(total=20, sampled=20)
    events.items.update({"i0": 5, "i9": 4, "elsewhere": 3})

    for most, whole in ((100, True), (2, False)):
        figures = read_catalogue(redis_settings, namespace, events, Limits(items=most))
        assert (len(figures.items), figures.whole) == (min(most, 9), whole)
        # One that was deleted is not to come back, and one outside the sample has its entry.
        assert (figures.event_items, figures.lacking) == (2, ["elsewhere"])
        assert figures.lacking_events == 3
