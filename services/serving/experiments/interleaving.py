"""Team-draft interleaving: one list of two, in which a click is a vote for one of them.

F. Radlinski, M. Kurup, T. Joachims, "How does clickthrough data reflect retrieval quality?", CIKM
2008. The two lists choose in turn, as captains choose teams: the one with the smaller team, or by a
coin where both are equal, adds its best item that is not in the list yet.
"""

from collections.abc import Sequence
from dataclasses import replace

from services.serving.arranging.exploration import draws
from services.serving.slate_making import MadeSlate
from slipstream.contracts.experiments import Variant


def team_draft(
    one: Sequence[str], other: Sequence[str], n: int, seed: str
) -> list[tuple[int, int]]:
    """The list of `n` items, or of all that there are, each as (team, place in the team's list).

    Where one list has no item left, the rest is the other's.

    Args:
        one: Item ids of team 0, best first.
        other: Item ids of team 1, best first.
        n: Most items of the list.
        seed: Text that the coins follow from.
    """
    lists, nexts, sizes = (one, other), [0, 0], [0, 0]
    taken, drafted = set[str](), list[tuple[int, int]]()
    for coin, _ in draws(f"{seed}:teams", n):
        for team in (0, 1):
            while nexts[team] < len(lists[team]) and lists[team][nexts[team]] in taken:
                nexts[team] += 1
        able = [team for team in (0, 1) if nexts[team] < len(lists[team])]
        if not able:
            break
        if len(able) == 1:
            team = able[0]
        elif sizes[0] == sizes[1]:
            team = int(coin >= 0.5)
        else:
            team = int(sizes[1] < sizes[0])
        drafted.append((team, nexts[team]))
        taken.add(lists[team][nexts[team]])
        sizes[team] += 1
    return drafted


def interleaved(slates: Sequence[MadeSlate], n: int, seed: str) -> tuple[MadeSlate, list[int]]:
    """One slate of two, and the team of each item. Substituted where one of them is.

    Each item keeps its score, and its rules, of its team's slate; scores of two teams do not
    compare. There are no propensities: those of the two slates do not hold for the list.

    Args:
        slates: The two slates.
        n: Length of the list.
        seed: The recommendation's id.
    """
    one, other = ([item.item_id for item in slate.items] for slate in slates)
    drafted = team_draft(one, other, n, seed)
    first = slates[drafted[0][0]] if drafted else slates[0]
    touched = [
        slates[team].touched[place] if slates[team].touched else () for team, place in drafted
    ]
    merged = replace(
        first,
        items=[slates[team].items[place] for team, place in drafted],
        reasons=list(dict.fromkeys(reason for slate in slates for reason in slate.reasons)),
        rules=[trace for slate in slates for trace in slate.rules],
        touched=touched if any(touched) else (),
        propensities=(),
        substituted=next((slate.substituted for slate in slates if slate.substituted), ""),
    )
    return merged, [team for team, _ in drafted]


def one_list(
    makers: Sequence[Variant | None], slates: Sequence[MadeSlate], n: int, seed: str
) -> tuple[MadeSlate, Sequence[str]]:
    """The slate of a request, and the variant of each item where two variants made it.

    Args:
        makers: One variant or two; None for the placement's own policy.
        slates: The slate of each.
        n: Length of the list.
        seed: The recommendation's id.
    """
    if len(slates) == 1:
        return slates[0], ()
    slate, teams = interleaved(slates, n, seed)
    names = [variant.name if variant is not None else "" for variant in makers]
    return slate, [names[team] for team in teams]
