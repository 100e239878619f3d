"""Redis tells where a log parted from what had been applied of it."""

from slipstream.stores.online import OnlineStore


def test_a_later_epoch_at_an_offset_that_was_applied_shows_that_the_log_parted(
    store: OnlineStore,
) -> None:
    def follow(*spans: tuple[int, int, int]) -> tuple[list[int], int]:
        parted, found = store.follow({"t:0": spans})["t:0"]
        return [*parted], found

    assert follow((2, 0, 99)) == ([], 0)
    assert follow((2, 100, 119), (3, 120, 129)) == ([], 0), "a new leader that lacks nothing"
    assert follow((2, 100, 119), (3, 120, 129)) == ([], 0), "read again"
    assert follow((3, 105, 109), (6, 110, 115)) == ([6], 1), "130 to 110 are lost"
    assert follow((3, 105, 109), (6, 110, 115)) == ([6], 0), "it is known"
    assert follow((6, 116, 400)) == ([6], 0)
    assert follow((3, 105, 109)) == ([6], 0), "another consumer, which is behind"
    assert follow((6, 401, 450), (8, 451, 460)) == ([6], 0)
    assert follow((9, 455, 456), (11, 456, 470)) == ([6, 9, 11], 2)
    huge = 9_007_199_254_000_000
    assert follow((12, huge, huge + 5)) == ([6, 9, 11], 0)
    assert follow((13, huge + 5, huge + 6)) == ([6, 9, 11, 13], 1)


def test_partitions_have_lineages_of_their_own(store: OnlineStore) -> None:
    store.follow({"t:0": [(1, 0, 9)], "t:1": [(4, 0, 9)]})
    answers = store.follow(
        {"t:1": [(4, 10, 12)], "t:0": [(2, 5, 6), (3, 7, 8)], "t:2": [(9, 0, 0)]}
    )
    assert {name: [*lineage.parted] for name, lineage in answers.items()} == {
        "t:1": [],
        "t:0": [2],
        "t:2": [],
    }
    assert store.follow({}) == {}
    assert [*store.follow({"t:0": ()})["t:0"].parted] == [2], "a question notes nothing"
    assert store.follow({"t:5": ()})["t:5"] == ([], 0)
