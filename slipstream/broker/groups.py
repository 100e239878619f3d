"""Consumer groups as the broker describes them: how many members, and their partitions."""

from collections.abc import Collection
from dataclasses import dataclass

from slipstream.broker.admin import admin_session
from slipstream.chassis.settings import KafkaSettings

# A partition by the topic's name on the broker and its number.
Partition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class GroupDescription:
    """A group at a moment when it was not rebalancing; during a rebalance it has no members here.

    `assigned` holds the partitions of the members; None where the broker does not report them, as
    the embedded one.
    """

    members: int
    assigned: frozenset[Partition] | None

    def is_full(self, partitions: Collection[Partition]) -> bool:
        """Whether one of its members may rightly have none of these partitions.

        Without reported assignments, that is so when the group has more members than any topic has
        partitions: the range assignor leaves some members without any then.
        """
        if self.assigned is not None:
            return self.assigned.issuperset(partitions)
        return self.members > max((number + 1 for _, number in partitions), default=0)


def describe_group(settings: KafkaSettings, group: str) -> GroupDescription:
    """Ask the broker for a group; one that does not exist has no members.

    Raises:
        BrokerUnavailableError: The broker does not answer.
    """
    with admin_session(settings, f"the group {group} could not be looked up") as admin:
        description = admin.describe_groups([group])[group]
    if description["group_state"] != "Stable":
        return GroupDescription(0, frozenset())
    members = description["members"]
    assignments = [member["member_assignment"] for member in members if member["member_assignment"]]
    if members and not assignments:
        return GroupDescription(len(members), None)
    return GroupDescription(
        len(members),
        frozenset(
            (topic["topic"], number)
            for assignment in assignments
            for topic in assignment["assigned_partitions"]
            for number in topic["partitions"]
        ),
    )
