from slipstream.contracts.positions import StreamInteraction
from slipstream.features.visitor import Covisit
from slipstream.stores.folding import ItemContribution, contributions
from tests.unit.features.strategies import START, event


def test_each_item_gets_a_record_once_with_its_side_of_the_pairs() -> None:
    viewed, searched = event(START, "a"), event(START + 1, None, "search")
    pairs = [Covisit("a", "b", START), Covisit("b", "a", START)]
    records = [StreamInteraction("t:0", 4, viewed), StreamInteraction("t:0", 5, searched)]
    assert contributions(records, {("t:0", 4): pairs}) == {
        "a": [ItemContribution("t:0", 4, viewed, pairs[:1])],
        "b": [ItemContribution("t:0", 4, None, pairs[1:])],
    }
