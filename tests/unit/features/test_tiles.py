import random

from hypothesis import given
from hypothesis import strategies as st

from slipstream.features.tiles import Tiles, TileSize, add, join, total

SIZE = TileSize(10, 8)
EVENTS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 5)), max_size=60)


def tiled(events: list[tuple[int, int]]) -> Tiles:
    tiles = Tiles()
    for when, group in events:
        add(tiles, SIZE, when, group)
    return tiles


@given(EVENTS, st.randoms(use_true_random=False))
def test_tiles_are_the_same_in_any_order_of_arrival(
    events: list[tuple[int, int]], chance: random.Random
) -> None:
    shuffled = events.copy()
    chance.shuffle(shuffled)
    assert tiled(shuffled) == tiled(events)


@given(EVENTS, EVENTS)
def test_joined_tiles_are_those_of_all_events(
    events: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    assert join(tiled(events), tiled(other), SIZE) == tiled(events + other)


@given(EVENTS, st.integers(0, 20), st.integers(1, SIZE.kept))
def test_total_counts_the_tile_of_a_moment_and_those_before_it(
    events: list[tuple[int, int]], beyond: int, length: int
) -> None:
    newest = max((when for when, _ in events), default=0) // SIZE.ms
    until = newest + beyond
    for groups in ((0,), (1, 3), tuple(range(6))):
        due = sum(
            group in groups and until - length < when // SIZE.ms <= until for when, group in events
        )
        assert total(tiled(events), groups, until, length) == due


@given(EVENTS, st.integers(0, 7), st.integers(0, 8))
def test_total_of_a_moment_before_the_newest_leaves_out_what_is_later(
    events: list[tuple[int, int]], back: int, length: int
) -> None:
    newest = max((when for when, _ in events), default=0) // SIZE.ms
    until = newest - back
    kept = newest - SIZE.kept
    due = sum(
        group == 2 and max(kept, until - length) < when // SIZE.ms <= until
        for when, group in events
    )
    assert total(tiled(events), (2,), until, length) == due


def test_what_is_older_than_is_kept_is_let_go_and_nothing_begins_with_zero() -> None:
    tiles = tiled([(0, 0), (10, 1), (85, 2)])
    assert (tiles.newest, tiles.counts) == (8, [[], [1, 0, 0, 0, 0, 0, 0, 0], [1], [], [], []])
    add(tiles, SIZE, 4, 0)
    assert tiles.counts[0] == []
    add(tiles, SIZE, 10_000, 3)
    assert tiles.counts == [[], [], [], [1], [], []]


def test_copy_is_independent() -> None:
    tiles = tiled([(0, 0)])
    add(tiles.copy(), SIZE, 50, 0)
    assert tiles == tiled([(0, 0)])
