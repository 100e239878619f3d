import numpy as np

from slipstream.recommender.bundle import Bundle
from slipstream.recommender.stages import recommend
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.item_space import ItemSpace
from slipstream.slates.catalogue.layers import LayeredIds
from tests.unit.serving.fakes import ITEMS, history, item_record, model


def test_items_of_the_catalogue_follow_those_of_the_model(bundle: Bundle) -> None:
    catalog, present = Catalog(), model(bundle)
    catalog.apply(item_record("early", available=False))
    catalog.apply(item_record("item-03"))
    space = catalog.space(present)
    catalog.apply(item_record("late"))
    catalog.apply(item_record("item-04", available=False))
    assert len(space) == len(space.shown) == len(ITEMS) + 2
    numbers = [space.number(item_id) for item_id in ("item-03", "early", "late", "unheard-of")]
    assert numbers == [bundle.index["item-03"], len(ITEMS), len(ITEMS) + 1, None]
    assert [space.item_id(number) for number in range(len(space))] == [
        *bundle.item_ids,
        "early",
        "late",
    ]
    hidden = {space.item_id(number) for number in np.flatnonzero(~space.shown).tolist()}
    assert hidden == {"early", "item-04"}


def test_a_mask_over_the_rows_becomes_one_over_the_numbers(bundle: Bundle) -> None:
    catalog, present = Catalog(), model(bundle)
    for number, item_id in enumerate(("new", "item-07", "item-09")):
        catalog.apply(item_record(item_id, attributes={"price": 10.0 * number}))
    space = catalog.space(present)
    catalog.apply(item_record("newer"))  # has no price, and no entry in the column
    dear = catalog.columns.numbers["price"].values >= 10
    mask = space.by_number(dear, missing=False) & space.shown
    assert {space.item_id(number) for number in np.flatnonzero(mask)} == {"item-07", "item-09"}
    recommended = recommend(bundle, history("item-08"), 5, allowed=mask)
    assert {one.item_id for one in recommended} == {"item-07", "item-09"}


def test_items_that_come_while_a_space_is_made_are_in_it(bundle: Bundle) -> None:
    item_ids = LayeredIds()
    item_ids.add("early")
    space = ItemSpace(bundle, item_ids)
    for item_id in ("item-05", "late"):
        item_ids.add(item_id)
    space.catch_up(np.array([True, False, False]))
    assert [space.number(item_id) for item_id in ("early", "late")] == [len(ITEMS), len(ITEMS) + 1]
    hidden = {space.item_id(number) for number in np.flatnonzero(~space.shown).tolist()}
    assert hidden == {"item-05", "late"}
    assert space.rows[bundle.index["item-05"]] == 1


def test_a_space_lives_no_longer_than_its_model(bundle: Bundle) -> None:
    catalog, present = Catalog(), model(bundle)
    catalog.space(present)
    assert len(catalog._spaces) == 1
    del present
    assert len(catalog._spaces) == 0
