import numpy as np

from slipstream.models.base import NEVER, EventWeights, History, Impressions
from slipstream.recommender import encoding
from slipstream.recommender.ranking_features import (
    feature_names,
    fit_appeal,
    item_table,
    ranking_features,
)
from tests.unit.recommender.chain import ITEMS, chain_interactions, chain_items


def test_each_column_has_a_name() -> None:
    interactions, items = chain_interactions(visitors=20), chain_items()
    item_ids = encoding.met_items(interactions, EventWeights())
    attributes = encoding.attributes(items, item_ids)
    table = item_table(
        encoding.encode(interactions, item_ids, EventWeights()), item_ids, attributes
    )
    names = feature_names(["rules", "ease"], attributes)
    history = History(np.array([3, 4], np.int32), np.ones(2, np.float32), np.array([0, 60_000]))
    result = ranking_features(
        table, history, np.arange(ITEMS, dtype=np.int32), np.zeros((ITEMS, 2), np.float32)
    )
    assert len(names) == len(set(names)) == result.shape[1]
    of = dict(zip(names, result.T, strict=True))
    assert np.flatnonzero(of["seen"]).tolist() == [3, 4]
    # The latest item counts twice as much as the one before; each shares its colour with the eighth
    # of the ring.
    assert of["same colour"][3] < of["same colour"][4] == of["same colour"][9]
    np.testing.assert_allclose(of["history length"], np.log1p(2), rtol=1e-6)


LOOKED = np.array([1.0, 0.6, 0.3, 0.1])
LIKED = np.array([0.1, 0.2, 0.4, 0.1, 0.3])


def shown(items: list[int], positions: list[int], taken: list[bool]) -> Impressions:
    size = len(items)
    return Impressions(
        np.array(items, np.int32),
        np.array(positions, np.int32),
        np.arange(size),
        np.where(taken, np.arange(size), NEVER),
    )


def simulated(rounds: int = 40_000) -> Impressions:
    """Item 2, the best liked, nearly always stands last, item 0 nearly always first."""
    random = np.random.default_rng(0)
    usual = np.array([0, 1, 4, 2])
    lists = np.array(
        [usual if random.random() < 0.8 else random.permutation(5)[:4] for _ in range(rounds)]
    )
    places = np.tile(np.arange(4), rounds)
    item = lists.ravel()
    taken = random.random(len(item)) < LOOKED[places] * LIKED[item]
    times = np.arange(len(item))
    return Impressions(
        item.astype(np.int32), places.astype(np.int32), times, np.where(taken, times, NEVER)
    )


def test_liking_is_told_from_where_an_item_stood() -> None:
    impressions = simulated()
    rate = np.bincount(impressions.item, impressions.taken) / np.bincount(impressions.item)
    assert (
        rate[2] < rate[1]
    )  # by clicks alone the best liked item looks worse than the one above it
    appeal, looked = fit_appeal(impressions, 6)
    np.testing.assert_allclose(looked[:4], LOOKED, rtol=0.15)
    relative = np.exp(appeal[:5] - appeal[1])
    np.testing.assert_allclose(relative, LIKED / LIKED[1], rtol=0.2)
    assert appeal[5] == 0  # was never shown


def test_what_is_shown_in_vain_loses_appeal_the_more_the_higher_it_stands() -> None:
    rows = (
        [(0, 0, False)] * 60
        + [(1, 3, False)] * 60
        + [(2, 0, True)] * 30
        + [(2, 0, False)] * 30
        + [(3, 3, True)] * 5
        + [(3, 3, False)] * 55
    )
    appeal, _ = fit_appeal(shown(*(list(column) for column in zip(*rows, strict=True))), 5)  # type: ignore[arg-type]
    assert appeal[0] < appeal[1] < appeal[4] == 0 < appeal[2]


def test_nothing_taken_says_nothing() -> None:
    appeal, looked = fit_appeal(shown([0, 1], [0, 200], [False, False]), 2)
    assert not appeal.any()
    assert (looked == 1).all()


def test_what_was_taken_later_was_not_known_before() -> None:
    some = Impressions(
        *(np.array([0, 0, 0], np.int32) for _ in range(2)), np.array([1, 2, 9]), np.array([8, 3, 9])
    )
    known = some.until(5)
    assert known.timestamp.tolist() == [1, 2]
    assert known.taken.tolist() == [False, True]
