"""When a member of a group may have no partition."""

import pytest

from slipstream.broker.groups import GroupDescription, Partition

ALL = [(topic, number) for topic in ("a", "b") for number in range(3)]


@pytest.mark.parametrize(
    ("members", "assigned", "full"),
    [
        (2, ALL, True),
        (9, ALL[:-1], False),
        (0, [], False),
        (3, None, False),
        (4, None, True),
    ],
)
def test_a_group_is_full_when_a_member_may_have_no_partition(
    members: int, assigned: list[Partition] | None, full: bool
) -> None:
    reported = None if assigned is None else frozenset(assigned)
    assert GroupDescription(members, reported).is_full(ALL) is full
