"""Team-draft interleaving: no item twice, fair teams, the best first."""

from hypothesis import given
from hypothesis import strategies as st

from slipstream.slates.participation import team_draft

lists = st.lists(st.sampled_from("abcdefghij"), unique=True, max_size=8)


@given(lists, lists, st.integers(0, 12), st.text(max_size=4))
def test_a_draft_has_each_item_once_from_teams_that_chose_their_best(
    one: list[str], other: list[str], n: int, seed: str
) -> None:
    drafted = team_draft(one, other, n, seed)
    chosen = [(one, other)[team][place] for team, place in drafted]
    assert len(chosen) == len(set(chosen)) == min(n, len({*one, *other}))
    for at, (team, place) in enumerate(drafted):
        assert set((one, other)[team][:place]) <= set(chosen[:at])
        rest = [set(each) - set(chosen[:at]) for each in (one, other)]
        sizes = [sum(other_team == each for other_team, _ in drafted[:at]) for each in (0, 1)]
        if all(rest):
            assert sizes[team] <= sizes[1 - team]
    assert team_draft(one, other, n, seed) == drafted


def test_equal_lists_stay_as_they_are_and_each_team_begins_half_of_the_time() -> None:
    begun = 0
    for number in range(1_000):
        drafted = team_draft("abcd", "abcd", 4, f"slate-{number}")
        assert [place for _, place in drafted] == [0, 1, 2, 3]
        assert sum(team for team, _ in drafted) == 2
        begun += drafted[0][0]
    assert 450 < begun < 550
